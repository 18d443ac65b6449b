"""Figures of a liquid's dynamics with one potential, beside those with another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from ase import Atoms
from ase.units import kg, m

from .block_statistics import Agreement, agreement, estimate
from .coexistence import trend
from .liquid_observables import Windows, einstein_diffusion, green_kubo_diffusion, species_pairs

Quantity = Literal["rdf", "vacf", "vdos", "msd"]

COMPARED: tuple[Quantity, ...] = ("rdf", "vacf", "vdos")
"""Curves whose agreement with the reference is told."""

MEASURED = ("melt_density_g_cm3", "self_diffusion_ang2_ps", "nve_drift_ev_per_atom_ps")
"""Names of the numbers that a validation lists."""

_G_CM3_PER_U_ANG3 = 1e3 / kg * (1e-2 * m) ** 3  # ASE's kg and m are in u and Å


@dataclass(frozen=True)
class ComparedCurve:
    """A curve of the potential beside the reference's.

    Attributes:
        quantity: what it is.
        name: species, or pair of species.
        x: Å for ``rdf``, ps for ``vacf`` and ``msd``, THz for ``vdos``.
        mean, error: mean and standard error; ``vacf`` is 1 at time 0.
        reference, reference_error: those of the reference; ``None`` without one.
        agreement: how far both are apart.
    """

    quantity: Quantity
    name: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    error: tuple[float, ...]
    reference: tuple[float, ...] | None = None
    reference_error: tuple[float, ...] | None = None
    agreement: Agreement | None = None


@dataclass(frozen=True)
class ComparedValue:
    """A number of the potential beside the reference's, each with its standard error.

    Attributes:
        name: with its unit at the end.
    """

    name: str
    value: float
    error: float
    reference: float | None = None
    reference_error: float | None = None

    @property
    def deviation_errors(self) -> float | None:
        """Difference from the reference in standard errors of the difference."""
        if self.reference is None or self.reference_error is None:
            return None
        both = float(np.hypot(self.error, self.reference_error))
        return abs(self.value - self.reference) / both if both > 0.0 else 0.0


@dataclass(frozen=True)
class EnergyTrace:
    """Total energy of a run at constant energy.

    Attributes:
        label: of the potential.
        run: number of the run.
        times_ps, energies_ev_per_atom: averages over 0.1 ps; energies above the first of them.
        drift_ev_per_atom_ps, drift_error_ev_per_atom_ps: slope and its standard error.
    """

    label: str
    run: int
    times_ps: tuple[float, ...]
    energies_ev_per_atom: tuple[float, ...]
    drift_ev_per_atom_ps: float
    drift_error_ev_per_atom_ps: float


@dataclass(frozen=True)
class LiquidDynamics:
    """What molecular dynamics of one liquid gave.

    Attributes:
        n_atoms: of the cell.
        reference_label: of the reference potential; empty without one.
        volume_ang3_per_atom: at which structure and motion were measured.
        numbers: densities, diffusion coefficients and such.
        curves: distribution functions, autocorrelations, spectra, displacements.
        energies: traces at constant energy, the potential's and the reference's.
    """

    n_atoms: int
    reference_label: str
    volume_ang3_per_atom: float
    numbers: tuple[ComparedValue, ...]
    curves: tuple[ComparedCurve, ...]
    energies: tuple[EnergyTrace, ...]

    def number(self, name: str) -> ComparedValue:
        """One of ``numbers``."""
        return next(found for found in self.numbers if found.name == name)

    def values(self) -> dict[str, float]:
        """Names as in :func:`value_names`."""
        found = {name: self.number(name).value for name in MEASURED}
        if not self.reference_label:
            return found
        for name, short in (("melt_density_g_cm3", "melt_density"), ("self_diffusion_ang2_ps", "self_diffusion")):
            own = self.number(name)
            assert own.reference is not None
            found[f"{short}_difference_percent"] = 100.0 * (own.value / own.reference - 1.0)
        for quantity in COMPARED:
            judged = [c.agreement for c in self.curves if c.quantity == quantity and c.agreement is not None]
            found[f"{quantity}_max_deviation_errors"] = max(a.max_deviation_errors for a in judged)
            found[f"{quantity}_difference_percent"] = 100.0 * max(a.integrated_difference for a in judged)
        return found


def value_names() -> tuple[str, ...]:
    """Names that :meth:`LiquidDynamics.values` may have."""
    compared = [f"{q}_{what}" for q in COMPARED for what in ("max_deviation_errors", "difference_percent")]
    return (*MEASURED, "melt_density_difference_percent", "self_diffusion_difference_percent", *compared)


@dataclass(frozen=True)
class Samples:
    """What the runs of one potential gave.

    Attributes:
        label: of the potential.
        volumes: ``[n_runs, n_blocks]``, Å^3, at constant pressure.
        fluid: of :func:`~.liquid_observables.observables`, ``[n_runs, n_blocks, ...]`` each, at constant volume.
        energies: ``[n_runs, n]``, eV per atom, total energy at constant energy, averaged over ``energy_step_ps``.
        energy_step_ps: see there.
    """

    label: str
    volumes: np.ndarray
    fluid: Mapping[str, np.ndarray]
    energies: np.ndarray
    energy_step_ps: float


_Figure = Callable[[Samples], np.ndarray]
"""Samples -> a number of each block, ``[n_runs, n_blocks]``."""


def compared(
    atoms: Atoms, volume_ang3: float, windows: Windows, ours: Samples, theirs: Samples | None
) -> LiquidDynamics:
    """Figures from the samples of a potential, and of its reference if there is one.

    Args:
        atoms: for its species.
        volume_ang3: at which structure and motion were measured.
    """
    traces = _traces(ours)
    their_traces = () if theirs is None else _traces(theirs)
    drift = ComparedValue("nve_drift_ev_per_atom_ps", *_mean_drift(traces))
    if theirs is not None:
        reference, reference_error = _mean_drift(their_traces)
        drift = replace(drift, reference=reference, reference_error=reference_error)
    numbers = [_number(name, of, ours, theirs) for name, of in _figures(atoms, windows).items()]
    return LiquidDynamics(
        n_atoms=len(atoms),
        reference_label="" if theirs is None else theirs.label,
        volume_ang3_per_atom=volume_ang3 / len(atoms),
        numbers=(*numbers, drift),
        curves=tuple(_curves(sorted(set(atoms.symbols)), windows, ours, theirs)),
        energies=(*traces, *their_traces),
    )


def _figures(atoms: Atoms, windows: Windows) -> dict[str, _Figure]:
    species = sorted(set(atoms.symbols))
    mass = float(atoms.get_masses().sum())
    counts = np.array([float(np.sum(atoms.symbols == symbol)) for symbol in species])

    def einstein(samples: Samples) -> np.ndarray:
        return einstein_diffusion(windows.displacement_times_ps, samples.fluid["msd"])

    def green_kubo(samples: Samples) -> np.ndarray:
        return green_kubo_diffusion(windows.lags_ps, samples.fluid["vacf"])

    def of_species(diffusion: _Figure, k: int) -> _Figure:
        return lambda samples: diffusion(samples)[..., k]

    return {
        "melt_density_g_cm3": lambda samples: mass / samples.volumes * _G_CM3_PER_U_ANG3,
        "self_diffusion_ang2_ps": lambda samples: einstein(samples) @ counts / counts.sum(),
        **{f"self_diffusion_{s}_ang2_ps": of_species(einstein, k) for k, s in enumerate(species)},
        **{f"green_kubo_diffusion_{s}_ang2_ps": of_species(green_kubo, k) for k, s in enumerate(species)},
        "nvt_temperature_k": lambda samples: samples.fluid["temperature"],
        "nvt_pressure_gpa": lambda samples: samples.fluid["pressure"],
    }


def _number(name: str, of: _Figure, ours: Samples, theirs: Samples | None) -> ComparedValue:
    mine = estimate(of(ours))
    found = ComparedValue(name, float(mine.mean), float(mine.error))
    if theirs is None:
        return found
    other = estimate(of(theirs))
    return replace(found, reference=float(other.mean), reference_error=float(other.error))


def _curves(species: Sequence[str], windows: Windows, ours: Samples, theirs: Samples | None) -> Iterator[ComparedCurve]:
    pairs = [f"{a}-{b}" for a, b in species_pairs(species)]
    axes: tuple[tuple[Quantity, np.ndarray, Sequence[str]], ...] = (
        ("rdf", windows.radii_ang, pairs),
        ("vacf", windows.lags_ps, species),
        ("vdos", windows.frequencies_thz, species),
        ("msd", windows.displacement_times_ps, species),
    )
    for quantity, x, names in axes:
        for k, name in enumerate(names):
            mine = estimate(_curve(ours, quantity, k))
            found = ComparedCurve(quantity, name, _floats(x), _floats(mine.mean), _floats(mine.error))
            if theirs is not None:
                other = estimate(_curve(theirs, quantity, k))
                found = replace(
                    found,
                    reference=_floats(other.mean),
                    reference_error=_floats(other.error),
                    agreement=agreement(x, mine, other),
                )
            yield found


def _curve(samples: Samples, quantity: Quantity, k: int) -> np.ndarray:
    found = samples.fluid[quantity][:, :, k]
    return found / found[..., :1] if quantity == "vacf" else found


def _traces(samples: Samples) -> tuple[EnergyTrace, ...]:
    found = []
    for run, energies in enumerate(samples.energies, start=1):
        times = (np.arange(len(energies)) + 0.5) * samples.energy_step_ps
        drift = trend(times, energies)
        found.append(EnergyTrace(samples.label, run, _floats(times), _floats(energies - energies[0]), *drift))
    return tuple(found)


def _mean_drift(traces: Sequence[EnergyTrace]) -> tuple[float, float]:
    """Mean drift of runs and its error: of the scatter among runs, or of the fits, whichever is larger."""
    slopes = np.array([trace.drift_ev_per_atom_ps for trace in traces])
    errors = np.array([trace.drift_error_ev_per_atom_ps for trace in traces])
    scatter = float(slopes.std(ddof=1) / np.sqrt(len(slopes))) if len(slopes) > 1 else 0.0
    return float(slopes.mean()), max(scatter, float(np.sqrt((errors**2).sum()) / len(errors)))


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())
