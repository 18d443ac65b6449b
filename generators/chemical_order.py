"""Alloys with chemical short-range order, by hybrid Monte Carlo and molecular dynamics from a random one.

Order is told as in Z. Fan, B. Xing, P. Cao (2022), Methods: δ of a pair of elements in a shell is the number of such
pairs less that of the random mixture; here by the number of atoms, so that samples of different sizes compare.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import orjson
from ase import Atoms
from pydantic import Field

from ..errors import ConfigError
from ..oracles.crystal_relaxation import RelaxationLimits, relax_crystal
from ..oracles.lammps_engine import LammpsEngine
from ..oracles.potentials import LammpsPotential
from ..oracles.swap_dynamics import SwapDynamics, SwapDynamicsSettings, SwapState
from ..oracles.warm_start import DEFAULT_BULK_MODULUS_EV_ANG3
from ..structures.base import Phase, structure_id
from ..structures.files import write_structures
from ..structures.order import pairs, warren_cowley_of_atoms
from ..structures.whole_file import write_whole

_STATE = "state.npz"
_CELL_LIMITS = RelaxationLimits(force_ev_ang=1e-2, stress_ev_ang3=1e-4)
_INHERENT_LIMITS = RelaxationLimits(force_ev_ang=1e-2, stress_ev_ang3=np.inf)


class ChemicalOrderSettings(SwapDynamicsSettings):
    """A run of hybrid Monte Carlo and molecular dynamics, with what is recorded of it."""

    phase: Phase = "bcc"
    """Whose shells of neighbours are counted."""
    n_shells: int = Field(default=2, ge=1, le=6)
    """Shells that order is told of."""
    relaxes_cell: bool = True
    """Whether the volume of the structure is relaxed to zero pressure before the run."""
    relaxes_snapshots: bool = True
    """Whether each snapshot is also relaxed to its nearest minimum, whose energy (the inherent potential energy) and
    positions are then recorded; else those of the vibrating crystal."""


@dataclass(frozen=True)
class OrderRecord:
    """The alloy at the end of a block.

    Attributes:
        step: steps of molecular dynamics.
        temperature_k: instantaneous.
        energy_ev_per_atom: potential energy of the vibrating crystal.
        inherent_energy_ev_per_atom: of the relaxed one; NaN where it was not relaxed.
        accepted: for each pair of elements, the share of swaps that were accepted so far.
        delta: for each pair and shell (``Ta-Nb 1``), pairs beyond the random mixture by the number of atoms.
    """

    step: int
    temperature_k: float
    energy_ev_per_atom: float
    inherent_energy_ev_per_atom: float
    accepted: Mapping[str, float]
    delta: Mapping[str, float]


def pair_excess(sites: Atoms, phase: Phase, n_shells: int, elements: Sequence[str]) -> dict[str, float]:
    """δ of each pair of elements and shell, by the number of atoms.

    Args:
        sites: the alloy on its ideal sites, or near them.

    Raises:
        StructureError: the structure has no such shells.
    """
    alpha = warren_cowley_of_atoms(sites, phase, n_shells, elements)
    symbols = np.array(sites.get_chemical_symbols())
    fractions = np.array([(symbols == element).mean() for element in elements])
    shells = {"bcc": (8, 6, 12, 24, 8, 6), "fcc": (12, 6, 24, 12, 24, 8)}[phase]
    found = {}
    for k in range(n_shells):
        for column, (a, b) in enumerate(pairs(len(elements))):
            random = (1.0 if a == b else 2.0) * fractions[a] * fractions[b] * shells[k] / 2.0
            found[f"{elements[a]}-{elements[b]} {k + 1}"] = float(-alpha[k, column] * random)
    return found


class ChemicalOrder:
    """A run in a folder, which can be stopped at any time and gone on with.

    The folder holds ``order.csv`` (a row for each block), ``snapshots/`` (a structure for each) and the state.

    Args:
        potential: for LAMMPS.
        settings: of the run.
        atoms: the alloy to begin with, on ideal sites.
        folder: made if it is not there.

    Raises:
        ConfigError: the folder holds a run with other settings, another potential or another structure.
    """

    def __init__(self, potential: LammpsPotential, settings: ChemicalOrderSettings, atoms: Atoms, folder: Path) -> None:
        settings.check()
        self._potential = potential
        self._settings = settings
        self._folder = folder
        self._elements = [e for e in potential.elements if e in set(atoms.get_chemical_symbols())]
        free = {"n_steps"}  # a run may go on further than was planned
        self._identity = orjson.dumps(
            [settings.model_dump(mode="json", exclude=free), potential.fingerprint, structure_id(atoms)]
        ).decode()
        self._start = atoms
        self.records: list[OrderRecord] = []
        self._state: SwapState | None = None
        self._sites = atoms
        (folder / "snapshots").mkdir(parents=True, exist_ok=True)
        if (folder / _STATE).is_file():
            self._load()
        elif settings.relaxes_cell:
            self._sites = self._relaxed_cell()

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done."""
        return self._state is not None and self._state.step >= self._settings.n_steps

    def run(self, on_record: Callable[[OrderRecord], bool]) -> None:
        """Run to the last step.

        Args:
            on_record: sees each record once it is safe on the disk; ``False`` stops the run.

        Raises:
            OracleError: see :meth:`~.swap_dynamics.SwapDynamics.block`.
        """
        dynamics = SwapDynamics(self._potential, self._settings, self._sites)
        if self._state is None and not self.records:
            self._snapshot(0, self._sites)
        while not self.is_complete:
            state = dynamics.block(self._state)
            now = self._sites.copy()
            now.numbers = state.numbers
            delta = pair_excess(now, self._settings.phase, self._settings.n_shells, self._elements)
            now.set_positions(state.positions)
            inherent = float("nan")
            if self._settings.relaxes_snapshots:
                inherent = self._relax(now) / len(now)
            accepted = {pair: done / max(tried, 1) for pair, (tried, done) in state.swaps.items()}
            record = OrderRecord(state.step, state.temperature_k, state.energy_ev / len(now), inherent, accepted, delta)
            self._snapshot(state.step, now)
            self.records.append(record)
            self._state = state
            self._save()
            if not on_record(record):
                return

    def _relaxed_cell(self) -> Atoms:
        engine = LammpsEngine(self._potential)
        try:
            found = relax_crystal(
                engine,
                self._start,
                cell_freedom="isotropic",
                bulk_modulus_ev_ang3=DEFAULT_BULK_MODULUS_EV_ANG3,
                limits=_CELL_LIMITS,
            )
        finally:
            engine.close()
        sites = self._start.copy()
        sites.set_cell(found.cell, scale_atoms=True)
        return sites

    def _relax(self, atoms: Atoms) -> float:
        """Relax positions in place; return the energy, eV."""
        engine = LammpsEngine(self._potential)
        try:
            found = relax_crystal(
                engine,
                self._sites_with(atoms.numbers),
                start=(atoms.positions, atoms.cell.array),
                cell_freedom="fixed",
                bulk_modulus_ev_ang3=DEFAULT_BULK_MODULUS_EV_ANG3,
                limits=_INHERENT_LIMITS,
            )
        finally:
            engine.close()
        atoms.set_positions(found.positions)
        return found.evaluation.energy_ev

    def _sites_with(self, numbers: np.ndarray) -> Atoms:
        sites = self._sites.copy()
        sites.numbers = numbers
        return sites

    def _snapshot(self, step: int, atoms: Atoms) -> None:
        row = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        row.info = {"phase": self._settings.phase, "md_step": step}
        write_structures(self._folder / "snapshots" / f"step_{step:010d}.extxyz", [row])

    def _save(self) -> None:
        state = self._state
        if state is None:
            return
        write_whole(self._folder / "order.csv", _table(self.records).encode())
        facts = {
            "identity": self._identity,
            "swaps": state.swaps,
            "records": [asdict(record) for record in self.records],
            "scalars": [state.step, state.energy_ev, state.temperature_k],
        }

        def fill(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(
                    file,
                    facts=orjson.dumps(facts).decode(),
                    numbers=state.numbers,
                    positions=state.positions,
                    sites=self._sites.positions,
                    cell=self._sites.cell.array,
                    restart=np.frombuffer(state.restart, dtype=np.uint8),
                )

        write_whole(self._folder / _STATE, fill)

    def _load(self) -> None:
        path = self._folder / _STATE
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                facts: dict[str, Any] = orjson.loads(str(stored["facts"]))
                if facts["identity"] != self._identity:
                    raise ConfigError(
                        f"{self._folder} holds a run with other settings, another potential or another structure; name "
                        "another folder, or delete it to begin anew"
                    )
                step, energy, temperature = facts["scalars"]
                swaps = {pair: (int(a), int(b)) for pair, (a, b) in facts["swaps"].items()}
                self._state = SwapState(
                    int(step),
                    stored["numbers"],
                    stored["positions"],
                    energy,
                    temperature,
                    swaps,
                    stored["restart"].tobytes(),
                )
                self._sites = self._start.copy()
                self._sites.set_cell(stored["cell"])
                self._sites.set_positions(stored["sites"])
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            raise ConfigError(f"{path} is damaged ({error}); delete {self._folder} to begin anew") from error
        nan = float("nan")
        self.records = [
            OrderRecord(**{**row, "inherent_energy_ev_per_atom": row["inherent_energy_ev_per_atom"] or nan})
            for row in facts["records"]
        ]


def _table(records: Sequence[OrderRecord]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    first = records[0]
    scalars = ("step", "temperature_k", "energy_ev_per_atom", "inherent_energy_ev_per_atom")
    writer.writerow([*scalars, *(f"accepted {p}" for p in first.accepted), *(f"delta {p}" for p in first.delta)])
    for record in records:
        values = [f"{getattr(record, name):.8g}" for name in scalars]
        values += [f"{value:.6g}" for value in (*record.accepted.values(), *record.delta.values())]
        writer.writerow(values)
    return buffer.getvalue()
