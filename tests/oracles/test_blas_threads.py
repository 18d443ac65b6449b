"""Labels do not depend on how many threads BLAS has."""

from __future__ import annotations

import os
import subprocess
import sys

from alloysmith.loop.execution.work import THREAD_VARIABLES

_LABEL_ONE = """
import numpy as np
from alloysmith.oracles.base import Request
from alloysmith.oracles.bulk_modulus import BulkModulusSettings
from alloysmith.oracles.potentials import WheelPotentialSettings
from ase.build import bulk

atoms = bulk("Ni", "fcc", a=3.57, cubic=True).repeat(3)
atoms.set_initial_magnetic_moments(None)
atoms.numbers[:] = np.random.default_rng(0).choice([28, 26, 24], size=len(atoms))
label = BulkModulusSettings(potential=WheelPotentialSettings(name="MoCoNiVFeAlCr_2nn.meam")).build().evaluate(
    Request("x", atoms)
)
print({name: float(value).hex() for name, value in label.values.items()}, label.atoms.positions.tobytes().hex())
"""


def test_a_label_is_the_same_to_the_last_bit_whatever_the_number_of_threads() -> None:
    one, two = (_label_with_threads(n) for n in (1, 2))
    assert "bulk_modulus_gpa" in one
    assert one == two


def _label_with_threads(n_threads: int) -> str:
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(n_threads))}
    ended = subprocess.run(
        [sys.executable, "-c", _LABEL_ONE], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
