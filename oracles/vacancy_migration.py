"""The energy barrier of a neighbour's hop into a vacancy, by climbing-image nudged elastic bands.

Z. Fan, B. Xing, P. Cao, "Convolutional neural networks enable high-fidelity prediction of path-dependent diffusion
barrier spectra in multi-principal element alloys" (2022), Methods: both end states relaxed, the box at zero pressure,
springs of 5 eV/Å, forces below 0.001 eV/Å.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveFloat

from ..structures.base import structure_id
from ..structures.vacancy_hop import read_hop, vector_between
from .band import Band, BandLimits, BandSprings, ImageFunction
from .base import Request, Value
from .crystal_relaxation import CellFreedom, RelaxationLimits
from .elastic_band import converge_band
from .lammps_engine import LammpsEngine
from .lammps_neb import converge_band_in_lammps
from .lammps_oracle import GPA_PER_EV_ANG3, LammpsOracle, LammpsOracleSettings
from .potentials import LammpsPotential
from .preconditioner import WithoutSites, spring_model
from .structure_guard import check_structure
from .vacancy_hop import HopEnds, HopStart, barriers, check_path, relax_end, relax_start
from .warm_start import DEFAULT_BULK_MODULUS_EV_ANG3

_N_STARTS_KEPT = 4
VACANCY = "X"
"""What stands for an empty site among the elements."""


class VacancyMigrationSettings(LammpsOracleSettings):
    """Barriers of vacancy hops. Structures need an atom `X` where the vacancy is, and `neighbour` in their info: the
    index of the atom that hops into it; `alloysmith barriers` makes them."""

    kind: Literal["vacancy_migration"] = "vacancy_migration"
    engine: Literal["in_process", "lammps_neb"] = "in_process"
    """Who relaxes the band: this process, with one live LAMMPS for each image, or LAMMPS' own `neb` in a program of its
    own, with one MPI process for each image. They agree to 1 meV; the first needs a fraction of the time."""
    n_images: int = Field(default=5, ge=1)
    """Images between the ends."""
    spring_ev_ang2: PositiveFloat = 5.0
    """Stiffness of the springs between images, in eV/Å^2."""
    max_force_ev_ang: PositiveFloat = 1e-3
    """Largest component of a residual force: at both ends, and on the climbing image."""
    max_path_force_ev_ang: PositiveFloat = 1e-2
    """The same on the other images, which the barrier does not depend on."""
    max_steps: int = Field(default=150, ge=1)
    """Steps of the band before it counts as not converged. LAMMPS' own gets twenty times as many smaller ones."""
    cell: CellFreedom = "isotropic"
    """What relaxes in the cell with the vacancy, to zero pressure: its volume (`isotropic`), also its shape (`full`),
    or nothing (`fixed`). The state after the hop is relaxed in the cell of that before it."""
    max_stress_gpa: PositiveFloat = 1e-2
    """Largest residual stress, in GPa."""
    max_force_calls: int = Field(default=400, ge=10)
    """Force calls before the relaxation of an end counts as not converged."""

    def known_elements(self) -> frozenset[str]:
        """See the base class; an empty site counts as an element."""
        return super().known_elements() | {VACANCY}

    def check(self, elements: Sequence[str]) -> None:
        """See the base class."""
        super().check([element for element in elements if element != VACANCY])

    def build(self) -> VacancyMigration:
        """The oracle of these settings.

        Raises:
            ConfigError: the potential's files are missing or defective.
        """
        return VacancyMigration(self, self.potential.load())


class VacancyMigration(LammpsOracle):
    """Labels hops (:mod:`~..structures.vacancy_hop`) with their barriers and the path; the structure of the label is
    the saddle, in the cell of the state before the hop.

    The relaxed state before the hop is kept for the next hops into the same vacancy, so these should follow one
    another. :meth:`evaluate` raises ``bad_structure``, ``not_converged``, ``left_phase`` (an atom left its site in the
    state before the hop), ``fell_back`` (the state after it is no minimum), ``other_path`` (another atom moves),
    ``no_saddle`` (a barrier that is not positive), ``corrupt_output`` or ``unavailable``.
    """

    name: ClassVar[str] = "vacancy_migration"
    version: ClassVar[str] = "1"
    properties: ClassVar[dict[str, str]] = {
        "barrier_forward_ev": "eV",
        "barrier_backward_ev": "eV",
        "saddle_position_ang": "Å",
        "path_ang": "Å",
        "path_energies_ev": "eV",
        "volume_ang3_per_atom": "Å^3",
    }
    arrays: ClassVar[frozenset[str]] = frozenset({"saddle_position_ang", "path_ang", "path_energies_ev"})
    cost_hint_s: ClassVar[float] = 0.3

    def __init__(self, settings: VacancyMigrationSettings, potential: LammpsPotential) -> None:
        super().__init__(settings, potential)
        self._settings = settings
        self._images = [LammpsEngine(potential, keeps_neighbours=True) for _ in range(settings.n_images + 2)]
        self._starts: OrderedDict[str, HopStart] = OrderedDict()
        self._limits = RelaxationLimits(
            force_ev_ang=settings.max_force_ev_ang,
            stress_ev_ang3=settings.max_stress_gpa / GPA_PER_EV_ANG3,
            max_calls=settings.max_force_calls,
        )

    def forget(self) -> None:
        """Drop the relaxed states that are kept for further hops; labels do not depend on them, their cost does."""
        self._starts.clear()

    def close(self) -> None:
        """Drop the live LAMMPS of all images."""
        super().close()
        for engine in self._images:
            engine.close()

    def _label(self, request: Request) -> tuple[dict[str, Value], Atoms, dict[str, Any]]:
        crystal = request.atoms
        check_structure(crystal)
        hop = read_hop(crystal)
        is_present = np.arange(len(crystal)) != hop.vacancy_site
        n_before = sum(engine.n_calls for engine in self._images)
        start, is_known = self._start(crystal, is_present)
        vector = vector_between(crystal, hop.neighbour, hop.vacancy_site)
        vector = vector @ np.linalg.solve(crystal.cell.array, start.atoms.cell.array)
        mover = int(is_present[: hop.neighbour].sum())
        ends = relax_end(self._images[0], start, mover, vector, self._limits)
        band = self._band(ends, crystal, is_present)
        check_path(ends, band)
        forward, backward = barriers(ends, band.energies_ev.tolist())
        saddle = crystal.copy()
        saddle.set_cell(start.atoms.cell)
        saddle.positions[is_present] = band.positions[band.climbing]
        saddle.positions[hop.vacancy_site] = start.vacancy
        values: dict[str, Value] = {
            "barrier_forward_ev": forward,
            "barrier_backward_ev": backward,
            "saddle_position_ang": band.positions[band.climbing][mover],
            "path_ang": band.path_ang,
            "path_energies_ev": band.energies_ev - start.energy_ev,
            "volume_ang3_per_atom": float(start.atoms.get_volume()) / len(start.atoms),
        }
        details = {
            "n_band_steps": band.n_steps,
            "n_band_calls": band.n_calls,
            "n_force_calls": sum(engine.n_calls for engine in self._images) - n_before,
            "max_force_ev_ang": band.max_force_ev_ang,
            "is_start_known": is_known,
        }
        return values, saddle, details

    def _start(self, crystal: Atoms, is_present: np.ndarray) -> tuple[HopStart, bool]:
        """The relaxed state before the hop, and whether it was known."""
        key = structure_id(crystal)
        if key in self._starts:
            self._starts.move_to_end(key)
            return self._starts[key], True
        bare = Atoms(
            numbers=crystal.numbers[is_present],
            positions=crystal.positions[is_present],
            cell=crystal.cell,
            pbc=crystal.pbc,
        )
        start = relax_start(
            self._images[0],
            bare,
            crystal.positions[~is_present][0],
            springs=WithoutSites(spring_model(crystal), is_present),
            cell_freedom=self._settings.cell,
            bulk_modulus_ev_ang3=DEFAULT_BULK_MODULUS_EV_ANG3,
            limits=self._limits,
        )
        self._starts[key] = start
        if len(self._starts) > _N_STARTS_KEPT:
            self._starts.popitem(last=False)
        return start, False

    def _band(self, ends: HopEnds, crystal: Atoms, is_present: np.ndarray) -> Band:
        settings = self._settings
        limits = BandLimits(
            spring_ev_ang2=settings.spring_ev_ang2,
            force_ev_ang=settings.max_force_ev_ang,
            path_force_ev_ang=max(settings.max_path_force_ev_ang, settings.max_force_ev_ang),
            max_steps=settings.max_steps,
        )
        if settings.engine == "lammps_neb":
            return converge_band_in_lammps(self._engine.potential, ends, settings.n_images, limits)
        start = ends.start.atoms
        for engine in self._images:
            engine.load(start)
        guide = np.zeros((len(start), 3))
        guide[ends.mover] = ends.hop
        springs = BandSprings(
            crystal,
            is_present,
            bulk_modulus_ev_ang3=ends.start.bulk_modulus_ev_ang3,
            volume_ang3=float(start.get_volume()),
        )
        functions = [_image_function(engine, start.cell.array) for engine in self._images]
        return converge_band(functions, ends.path(settings.n_images), guide=guide, springs=springs, limits=limits)


def _image_function(engine: LammpsEngine, cell: np.ndarray) -> ImageFunction:
    def evaluate(positions: np.ndarray) -> tuple[float, np.ndarray]:
        found = engine.evaluate(positions, cell)
        return found.energy_ev, found.forces

    return evaluate
