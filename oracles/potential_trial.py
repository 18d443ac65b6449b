"""Child process in which a potential meets LAMMPS for the first time (see `lammps_engine.try_potential`).

Standard input holds the number of atom types and then the commands; two atoms of each type are evaluated.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .lammps_library import new_lammps


def main(lines: Sequence[str]) -> int:
    """Set up a small cell with all types and compute it once; 0 when LAMMPS came through."""
    n_types = int(lines[0])
    n_atoms = 2 * n_types
    edge_ang = 12.0 * n_atoms
    try:
        lmp = new_lammps()
        for command in (
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            f"region cell prism 0 {edge_ang} 0 12 0 12 0 0 0 units box",
            f"create_box {n_types} cell",
        ):
            lmp.command(command)
        types = [1 + i // 2 for i in range(n_atoms)]
        positions = [value for i in range(n_atoms) for value in (2.6 * i + 1.0, 6.0, 6.0)]
        lmp.create_atoms(n_atoms, list(range(1, n_atoms + 1)), types, positions)
        for command in lines[1:]:
            lmp.command(command)
        lmp.command("run 0 post no")
    except Exception as error:  # noqa: BLE001  (LAMMPS raises bare Exception; the parent reads the message)
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read().splitlines()))
