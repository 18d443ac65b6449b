"""Snapshots of melts: molecular dynamics over compositions and temperatures, labelled by the potential that drives it.

As the training sets of Ryltsev and Chtchelkatchev (J. Mol. Liq. 349, 118181 (2022), section 2.1) were made: a random
crystal of each composition is molten far above its melting point, cooled to the temperature of interest, left to
forget how it was made, and visited at intervals after which it has moved on. Crystals are sampled in the same way, but
for the melting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
from ase import Atoms
from ase.formula import Formula
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ..oracles.base import FailureKind, OracleError
from ..oracles.force_engine import ForceEngine
from ..oracles.md_settings import MdSettings
from ..oracles.molecular_dynamics import MolecularDynamics
from ..oracles.potentials import LammpsPotential
from ..oracles.trajectory import Trajectory
from ..structures.base import Phase
from ..structures.lattice import parent_lattice
from ..structures.settings import CellSettings, Settings
from ..structures.space import DesignSpace


class MeltSamplingSettings(Settings):
    """Melts, or crystals, to be sampled: all compositions at all temperatures."""

    compositions: tuple[str, ...] = Field(min_length=1)
    """Formulas, such as `[Al, Al50Cu50, Al60Cu20Ni20]`; counts are rounded to the cell."""
    test_compositions: tuple[str, ...] = ()
    """As many more, whose frames are kept apart to test what was learnt from the others."""
    temperatures_k: tuple[PositiveFloat, ...] = Field(min_length=1)
    """Temperatures at which they are visited."""
    pressure_gpa: float = 0.0
    """Pressure; the volume follows it, so that frames tell about compression as well."""
    phase: Phase = "fcc"
    """Lattice of the crystal at the start, on which the atoms are put at random."""
    cell: CellSettings = CellSettings(kind="cubic", repeat=(3, 3, 3))
    """Its cell; 3 × 3 × 3 cubic FCC cells hold 108 atoms."""
    melting_temperature_k: PositiveFloat | None = 3500.0
    """Where crystals lose their memory fast. `null`: nothing is molten; the crystal of each composition, the same at
    all temperatures, is sampled as a solid."""
    n_melting_steps: PositiveInt = 1000
    """Steps there."""
    n_cooling_steps: PositiveInt = 1500
    """Steps of the ramp to the temperature of the melt."""
    n_equilibration_steps: PositiveInt = 1000
    """Steps at that temperature before the first frame."""
    n_frames: PositiveInt = 30
    """Frames of each composition at each temperature."""
    stride: PositiveInt = 200
    """Steps from one frame to the next; `sample` tells how far atoms move and how energies correlate over it."""
    timestep_fs: PositiveFloat = 2.0
    """Time step."""
    seed: int = Field(default=0, ge=0)
    """Everything random derives from it."""

    @field_validator("compositions", "test_compositions")
    @classmethod
    def _are_formulas(cls, formulas: tuple[str, ...]) -> tuple[str, ...]:
        for formula in formulas:
            fractions(formula)
        if len(set(formulas)) < len(formulas):
            raise ValueError(f"a composition is named twice: {', '.join(formulas)}")
        return formulas

    @model_validator(mode="after")
    def _are_melts(self) -> MeltSamplingSettings:
        if self.melting_temperature_k is not None and max(self.temperatures_k) > self.melting_temperature_k:
            raise ValueError(
                f"melting_temperature_k is {self.melting_temperature_k:g}, below a temperature of the melts, "
                f"{max(self.temperatures_k):g}; raise it, or set it to null for crystals"
            )
        if both := sorted(set(self.compositions) & set(self.test_compositions)):
            raise ValueError(f"{', '.join(both)} would be learnt from and tested; name it once")
        return self

    def elements(self) -> tuple[str, ...]:
        """Chemical symbols of all compositions, sorted."""
        return tuple(sorted({s for c in (*self.compositions, *self.test_compositions) for s in fractions(c)}))


@dataclass(frozen=True)
class PlannedMelt:
    """A composition at a temperature.

    Attributes:
        place: of the composition among all, those for tests last; of the temperature. What is random derives from it.
        composition: its formula, as in the settings.
        temperature_k: target.
        is_test: whether it is one of the test compositions.
    """

    place: tuple[int, int]
    composition: str
    temperature_k: float
    is_test: bool


@dataclass(frozen=True)
class Melt(PlannedMelt):
    """Snapshots of one composition at one temperature.

    Attributes:
        frames: with ``energy`` (eV), ``stress`` (``[6]``, eV/Å^3), ``forces`` (``[n_atoms, 3]``, eV/Å), ``group``
            (the composition), ``temperature_k`` (target) and ``step``.
        displacement_ang: root mean square distance that atoms go from one frame to the next; ``nan`` for one frame.
        energy_correlation: correlation of the energies of consecutive frames; ``nan`` for fewer than three.
        volume_ang3: mean volume per atom.
    """

    frames: Sequence[Atoms]
    displacement_ang: float
    energy_correlation: float
    volume_ang3: float


def fractions(formula: str) -> dict[str, float]:
    """Atomic fractions in a formula.

    Raises:
        ValueError: it is no formula.
    """
    try:
        counts = Formula(formula).count()
    except (ValueError, KeyError) as error:
        raise ValueError(f"{formula!r} is no formula ({error}); write one such as Al60Cu20Ni20") from error
    total = sum(counts.values())
    if total == 0:
        raise ValueError(f"{formula!r} names no atoms; write a formula such as Al60Cu20Ni20")
    return {symbol: n / total for symbol, n in counts.items()}


def composition_distance(one: str, other: str) -> float:
    """Share of the atoms that would have to be exchanged to make one composition of the other."""
    a, b = fractions(one), fractions(other)
    return 0.5 * sum(abs(a.get(symbol, 0.0) - b.get(symbol, 0.0)) for symbol in {*a, *b})


def planned_melts(settings: MeltSamplingSettings) -> list[PlannedMelt]:
    """All compositions at all temperatures, compositions first."""
    named = [(c, False) for c in settings.compositions] + [(c, True) for c in settings.test_compositions]
    places = product(enumerate(named), enumerate(settings.temperatures_k))
    return [PlannedMelt((i, j), composition, t, is_test) for (i, (composition, is_test)), (j, t) in places]


def sample_melts(
    force_field: LammpsPotential | ForceEngine,
    settings: MeltSamplingSettings,
    on_melt: Callable[[Melt], object] = lambda melt: None,
    known: Mapping[tuple[int, int], Melt] = MappingProxyType({}),
) -> list[Melt]:
    """Run and visit all melts, compositions first.

    Each melt has seeds of its own by its place, so it does not change when temperatures are added at the end of the
    list.

    Args:
        on_melt: given each melt as it is done.
        known: melts by place that were done before, with the same settings and force field.

    Raises:
        OracleError: a run stopped being physics, or LAMMPS cannot be used.
    """
    melts = []
    for planned in planned_melts(settings):
        melt = known.get(planned.place)
        if melt is None:
            melt = _melt(force_field, settings, planned)
            on_melt(melt)
        melts.append(melt)
    return melts


def _melt(force_field: LammpsPotential | ForceEngine, settings: MeltSamplingSettings, planned: PlannedMelt) -> Melt:
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=planned.place))
    composition, temperature_k = planned.composition, planned.temperature_k

    def run(atoms: Atoms, n_steps: int, **more: object) -> Trajectory:
        base = {"ensemble": "npt", "pressure_gpa": settings.pressure_gpa, "timestep_fs": settings.timestep_fs}
        base |= {"n_steps": n_steps, "stride": n_steps, "block_steps": n_steps, "with_velocities": True}
        md = MdSettings.model_validate({**base, "seed": int(rng.integers(1, 2**31 - 1)), **more})
        ended = MolecularDynamics(force_field, md).run(atoms)
        if ended.stop is not None:
            raise OracleError(
                FailureKind.CRASHED,
                f"{composition} at {temperature_k:g} K stopped at step {ended.stop.step}: "
                f"{ended.stop.message}; take a smaller timestep_fs, or a lower melting_temperature_k",
            )
        return ended.trajectory

    hot = settings.melting_temperature_k
    at: dict[str, object] = {"temperature_k": temperature_k, "with_forces": True, "stride": settings.stride}
    if hot is None:
        of_composition = np.random.SeedSequence(settings.seed, spawn_key=planned.place[:1])
        start = _random_crystal(composition, settings, np.random.default_rng(of_composition))
    else:
        molten = run(_random_crystal(composition, settings, rng), settings.n_melting_steps, temperature_k=hot).atoms(-1)
        cooling = {"temperature_k": hot, "temperature_end_k": temperature_k, "velocities": "keep"}
        start = run(molten, settings.n_cooling_steps, **cooling).atoms(-1)
        at["velocities"] = "keep"
    n_sampled = settings.n_frames * settings.stride
    # in strides, so that the last n_frames of them begin after the equilibration
    n_before = math.ceil(settings.n_equilibration_steps / settings.stride) * settings.stride
    visited = run(start, n_before + n_sampled, **at)
    kept = range(len(visited) - settings.n_frames, len(visited))
    frames = [_frame(visited, k, composition, temperature_k) for k in kept]
    moves = np.diff(visited.positions[kept.start :], axis=0)
    energies = visited.energies_ev[kept.start :]
    return Melt(
        **vars(planned),
        frames=frames,
        displacement_ang=float(np.sqrt((moves**2).sum(axis=2).mean())) if len(frames) > 1 else math.nan,
        energy_correlation=_correlation(energies),
        volume_ang3=float(visited.volumes_ang3[kept.start :].mean() / len(visited.numbers)),
    )


def _random_crystal(composition: str, settings: MeltSamplingSettings, rng: np.random.Generator) -> Atoms:
    shares = fractions(composition)
    lattice = parent_lattice(settings.phase, settings.cell.kind, settings.cell.repeat)
    space = DesignSpace(tuple(shares), (lattice,))
    exact = np.array(list(shares.values())) * lattice.n_sites
    counts = np.floor(exact + 1e-9).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: lattice.n_sites - counts.sum()]] += 1
    return space.atoms(lattice, space.random_occupation(rng, lattice, counts))


def _frame(visited: Trajectory, index: int, composition: str, temperature_k: float) -> Atoms:
    atoms = visited.atoms(index)
    atoms.wrap()
    del atoms.arrays["momenta"]
    kept = {name: atoms.info[name] for name in ("energy", "stress", "step")}
    atoms.info = {"group": composition, "temperature_k": temperature_k, **kept}
    return atoms


def _correlation(values: np.ndarray) -> float:
    if len(values) < 3:
        return math.nan
    apart = values - values.mean()
    return float((apart[1:] * apart[:-1]).mean() / (apart**2).mean())
