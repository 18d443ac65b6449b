"""Parameters to start from where no table has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from .fixed_forms import density_and_pair
from .functions import damped_exponential, mixed_pair


def fitted_cross(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Parameters of Eq. 16 for two elements that come close to their mixed pair function (Eq. 17).

    Shapes are the elements' means; the two amplitudes, which enter linearly, are fitted by least squares between 0.8
    and 2 times r_e, where neighbours are.

    Args:
        first, second: parameters of the two elements.
    """
    mean = {name: (first[name] + second[name]) / 2 for name in ("re", "alpha", "beta", "kappa", "lambda")}
    r = torch.linspace(0.8 * mean["re"], 2.0 * mean["re"], 200, dtype=torch.float64)
    p, q = ({name: torch.tensor(v, dtype=torch.float64) for name, v in row.items()} for row in (first, second))
    target = mixed_pair(*density_and_pair(r, p), *density_and_pair(r, q))[0]
    m = {name: torch.tensor(v, dtype=torch.float64) for name, v in mean.items()}
    repulsion = damped_exponential(r / m["re"], m["alpha"], m["kappa"])[0]
    attraction = damped_exponential(r / m["re"], m["beta"], m["lambda"])[0]
    columns = torch.stack([repulsion, -attraction], 1).numpy()
    weights = 1.0 / (0.1 + np.abs(target.numpy()))
    a, b = np.linalg.lstsq(columns * weights[:, None], target.numpy() * weights, rcond=None)[0]
    if a <= 0 or b <= 0:  # elements so unlike each other that their mean shapes do not fit
        a, b = np.sqrt(first["A"] * second["A"]), np.sqrt(first["B"] * second["B"])
    return {**mean, "A": float(a), "B": float(b)}
