"""Hybrid Monte Carlo and molecular dynamics: atoms of different elements trade places while the crystal vibrates.

LAMMPS' `fix atom/swap` beside a Nosé-Hoover thermostat, as in Z. Fan, B. Xing, P. Cao (2022), Methods: at 300 K, 30
trials of exchanging each pair of elements every 100 steps, accepted by the Metropolis rule.

A run is a chain of blocks. Each starts a LAMMPS of its own from the restart file that the one before has left, so that
a run that was stopped and resumed goes as one that was not. Facts about LAMMPS that matter here: a restart holds
positions, velocities, types, the thermostat and the random state of each swap, as long as the fixes are named again in
the same order; atoms are sorted in memory, so that all is read by atom id; a swap is refused where one of the two
types is absent.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import Field

from ..errors import ConfigError
from ..structures.settings import Settings
from .base import FailureKind, OracleError
from .cell_frame import CellFrame
from .lammps_engine import potential_commands, try_potential
from .lammps_library import LammpsUnavailableError, new_lammps
from .potentials import LammpsPotential
from .structure_guard import check_structure

_MAX_TEMPERATURE_FACTOR = 5.0
_MAX_TEMPERATURE_MARGIN_K = 2000.0


class SwapDynamicsSettings(Settings):
    """Hybrid Monte Carlo and molecular dynamics at constant volume and temperature."""

    temperature_k: float = Field(default=300.0, gt=0.0)
    """Temperature, of the thermostat and of the Metropolis rule."""
    n_steps: int = Field(default=100_000, ge=1)
    """Steps of molecular dynamics."""
    swap_steps: int = Field(default=100, ge=1)
    """Steps from one round of swaps to the next."""
    n_trials: int = Field(default=30, ge=1)
    """Trials of each pair of elements in a round."""
    block_steps: int = Field(default=1000, ge=1)
    """Steps of a block, a multiple of `swap_steps`: after each there is a record, and a run can be resumed from it."""
    timestep_fs: float = Field(default=2.0, gt=0.0, le=10.0)
    """Time step."""
    damping_ps: float = Field(default=0.1, gt=0.0)
    """Relaxation time of the thermostat."""
    seed: int = Field(default=0, ge=0)
    """Seed of the velocities and of the swaps."""

    def check(self) -> None:
        """Check that blocks hold whole rounds.

        Raises:
            ConfigError: they do not.
        """
        if self.block_steps % self.swap_steps or self.n_steps % self.block_steps:
            raise ConfigError(
                f"block_steps ({self.block_steps}) must be a multiple of swap_steps ({self.swap_steps}), and n_steps "
                f"({self.n_steps}) of block_steps"
            )


@dataclass(frozen=True)
class SwapState:
    """Where a run is at the end of a block.

    Attributes:
        step: steps done.
        numbers: ``[n_atoms]``, atomic numbers on the sites now.
        positions: ``[n_atoms, 3]``, Å.
        energy_ev: potential energy.
        temperature_k: instantaneous.
        swaps: for each pair of elements, trials and swaps so far.
        restart: LAMMPS' restart file, for the same version of LAMMPS.
    """

    step: int
    numbers: np.ndarray
    positions: np.ndarray
    energy_ev: float
    temperature_k: float
    swaps: dict[str, tuple[int, int]]
    restart: bytes


class SwapDynamics:
    """Runs one potential with one set of settings on one structure.

    Args:
        potential: for LAMMPS.
        settings: how to run.
        atoms: the structure; the cell is kept.
    """

    def __init__(self, potential: LammpsPotential, settings: SwapDynamicsSettings, atoms: Atoms) -> None:
        settings.check()
        potential.require(sorted(set(atoms.get_chemical_symbols())))
        self._potential = potential
        self._settings = settings
        self._atoms = atoms.copy()
        self._frame = CellFrame.of_cell(atoms.cell.array)
        self._present = [symbol for symbol in potential.elements if symbol in set(atoms.get_chemical_symbols())]

    def block(self, state: SwapState | None) -> SwapState:
        """One block further.

        Args:
            state: at its beginning; ``None`` for the first one.

        Raises:
            OracleError: ``bad_structure``; ``unavailable``; ``corrupt_output`` where the run explodes, loses atoms or
                LAMMPS stops.
        """
        check_structure(self._atoms)
        try:
            try_potential(self._potential)
            lmp = new_lammps()
        except (ConfigError, LammpsUnavailableError) as error:
            raise OracleError(FailureKind.UNAVAILABLE, str(error)) from error
        with tempfile.TemporaryDirectory(prefix="alloysmith-swap-") as name:
            try:
                return self._run(lmp, Path(name), state)
            except OracleError:
                raise
            except Exception as error:  # LAMMPS raises bare Exception
                raise OracleError(FailureKind.CORRUPT_OUTPUT, f"LAMMPS stopped: {error}") from error
            finally:
                lmp.close()

    def _run(self, lmp: Any, folder: Path, state: SwapState | None) -> SwapState:
        settings = self._settings
        for command in ("units metal", "atom_style atomic", "atom_modify map array", "boundary p p p"):
            lmp.command(command)
        lmp.command("box tilt large")
        if state is None:
            self._create(lmp)
        else:
            (folder / "before").write_bytes(state.restart)
            lmp.command(f'read_restart "{folder / "before"}"')
        for command in potential_commands(self._potential):
            lmp.command(command)
        lmp.command("thermo_style custom step temp pe")
        lmp.command(f"timestep {settings.timestep_fs / 1000.0!r}")
        seeds = np.random.default_rng(settings.seed).integers(1, 2**31 - 1, 1 + len(self._pairs))
        if state is None:
            # twice: half of the kinetic energy becomes potential energy
            lmp.command(f"velocity all create {2.0 * settings.temperature_k!r} {seeds[0]} mom yes rot no dist gaussian")
        t = settings.temperature_k
        lmp.command(f"fix bath all nvt temp {t!r} {t!r} {settings.damping_ps!r}")
        for k, (a, b) in enumerate(self._pairs):
            types = f"{self._type(a)} {self._type(b)}"
            lmp.command(
                f"fix swap{k} all atom/swap {settings.swap_steps} {settings.n_trials} {seeds[k + 1]} {t!r} ke yes "
                f"types {types}"
            )
            lmp.command(f"variable tried{k} equal f_swap{k}[1]")
            lmp.command(f"variable done{k} equal f_swap{k}[2]")
        lmp.command(f"thermo {settings.block_steps}")
        lmp.command(f"run {settings.block_steps} post no")
        found = self._found(lmp, state)
        lmp.command(f'write_restart "{folder / "after"}"')
        return SwapState(*found, (folder / "after").read_bytes())

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        return list(itertools.combinations(self._present, 2))

    def _type(self, symbol: str) -> int:
        return self._potential.elements.index(symbol) + 1

    def _create(self, lmp: Any) -> None:
        (xx, _, _), (xy, yy, _), (xz, yz, zz) = self._frame.box.tolist()
        lmp.command(f"region cell prism 0 {xx!r} 0 {yy!r} 0 {zz!r} {xy!r} {xz!r} {yz!r} units box")
        lmp.command(f"create_box {len(self._potential.elements)} cell")
        types = [self._type(symbol) for symbol in self._atoms.get_chemical_symbols()]
        n_atoms = len(types)
        inside = self._frame.wrapped(self._atoms.positions)
        lmp.create_atoms(n_atoms, list(range(1, n_atoms + 1)), types, inside.ravel())

    def _found(
        self, lmp: Any, state: SwapState | None
    ) -> tuple[int, np.ndarray, np.ndarray, float, float, dict[str, tuple[int, int]]]:
        n_atoms = int(lmp.get_natoms())
        energy = float(lmp.get_thermo("pe"))
        temperature = float(lmp.get_thermo("temp"))
        highest = _MAX_TEMPERATURE_FACTOR * self._settings.temperature_k + _MAX_TEMPERATURE_MARGIN_K
        if n_atoms != len(self._atoms) or not np.isfinite(energy) or not temperature < highest:
            raise OracleError(
                FailureKind.CORRUPT_OUTPUT,
                f"the run has {n_atoms} of {len(self._atoms)} atoms, an energy of {energy:.6g} eV and "
                f"{temperature:.5g} K (at most {highest:.5g} K is allowed): it has exploded; try a smaller timestep",
                {"temperature_k": temperature, "energy_ev": energy},
            )
        types = np.array(lmp.gather_atoms("type", 0, 1))
        symbols = Atoms([self._potential.elements[k - 1] for k in types.tolist()])
        positions = self._frame.vectors_out(np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3))
        before = self._atoms.positions if state is None else state.positions
        cell = self._atoms.cell.array
        positions = positions - np.round((positions - before) @ np.linalg.inv(cell)) @ cell
        swaps = {}
        for k, (a, b) in enumerate(self._pairs):
            tried, done = (int(lmp.extract_variable(f"{name}{k}")) for name in ("tried", "done"))
            swaps[f"{a}-{b}"] = (tried, done)  # counted on from the restart
        return int(lmp.extract_global("ntimestep")), symbols.numbers, positions, energy, temperature, swaps
