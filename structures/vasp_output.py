"""Ionic steps of VASP runs: ``vasprun.xml`` and ``OUTCAR``, gzipped too.

Energies are told apart, since they differ by up to several meV per atom with smearing: ``free_energy`` is the free
energy of the electrons (``free energy TOTEN``), whose derivatives VASP's forces and stresses are; ``energy`` is the one
extrapolated to zero smearing (``energy(sigma->0)``).
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import ParseError
from ase.io.vasp_parsers import vasp_outcar_parsers as outcar_parsers
from ase.units import GPa

from ..errors import StructureError

_KBAR = 0.1 * GPa
_READER_ERRORS = (  # what the readers raise on damaged input; ElementTree's parse error is a SyntaxError
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    ParseError,
    SyntaxError,
    TypeError,
    ValueError,
    zlib.error,
)


@dataclass(frozen=True)
class VaspStep:
    """One ionic step.

    Attributes:
        number: counted from 1, as VASP does.
        atoms: the structure, with ``info`` ``energy``, ``free_energy`` (eV) and ``stress`` (``[3, 3]``, eV/Å^3, tension
            positive), and ``forces`` in ``arrays``, without what VASP does not give; no calculator.
        is_converged: whether the electrons demonstrably reached EDIFF.
    """

    number: int
    atoms: Atoms
    is_converged: bool


@dataclass(frozen=True)
class VaspRun:
    """What a file holds.

    Attributes:
        steps: all complete ionic steps.
        is_truncated: whether it ends within a step: the run was killed, or still goes on.
    """

    steps: tuple[VaspStep, ...]
    is_truncated: bool


def is_vasp_output(path: str | Path) -> bool:
    """Whether a file's name is that of a VASP output (``vasprun*.xml``, ``OUTCAR*``, also with ``.gz``)."""
    return _is_vasprun(Path(path)) or Path(path).name.upper().startswith("OUTCAR")


def read_vasp_output(path: str | Path) -> VaspRun:
    """Read all ionic steps of a run.

    Raises:
        StructureError: no such file, or not a VASP output that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise StructureError(f"{path}: there is no such file")
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
        return _read_vasprun(io.BytesIO(raw)) if _is_vasprun(path) else _read_outcar(raw.decode(errors="replace"))
    except (*_READER_ERRORS, StructureError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise StructureError(f"{path}: cannot be read as VASP output; it may be damaged ({detail})") from error


def _is_vasprun(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.startswith("vasprun") and name.endswith(".xml")


# --- vasprun.xml -----------------------------------------------------------------------------------------------------


@dataclass
class _Parameters:
    n_max_electronic: int = 60
    ediff_ev: float = 1e-4
    pressure_ev_ang3: float = 0.0


def _read_vasprun(stream: IO[bytes]) -> VaspRun:
    parameters = _Parameters()
    symbols: list[str] = []
    steps: list[VaspStep] = []
    is_truncated = is_within_step = False
    try:
        for event, element in ElementTree.iterparse(stream, events=("start", "end")):
            if element.tag == "calculation":
                is_within_step = event == "start"
                if event == "end":
                    steps.append(_vasprun_step(len(steps) + 1, element, symbols, parameters))
                    element.clear()  # eigenvalues and densities of states may fill the memory
            elif event == "end" and element.tag == "parameters":
                parameters = _vasprun_parameters(element)
            elif event == "end" and element.tag == "atominfo":
                symbols = [(row[0].text or "").strip() for row in element.findall("array[@name='atoms']/set/rc")]
    except ElementTree.ParseError:
        if not symbols:
            raise
        is_truncated = True
    return VaspRun(tuple(steps), is_truncated or is_within_step)


def _vasprun_parameters(element: ElementTree.Element) -> _Parameters:
    values = {item.get("name"): item.text or "" for item in element.iter("i")}
    found = _Parameters()
    if "NELM" in values:
        found.n_max_electronic = int(values["NELM"])
    if "EDIFF" in values:
        found.ediff_ev = float(values["EDIFF"])
    if "PSTRESS" in values:
        found.pressure_ev_ang3 = float(values["PSTRESS"]) * _KBAR
    return found


def _vasprun_step(number: int, element: ElementTree.Element, symbols: list[str], parameters: _Parameters) -> VaspStep:
    cell = _vectors(element.find("structure/crystal/varray[@name='basis']"))
    scaled = _vectors(element.find("structure/varray[@name='positions']"))
    if cell is None or scaled is None:
        raise StructureError(f"ionic step {number} has no structure")
    atoms = Atoms(symbols, cell=cell, scaled_positions=scaled, pbc=True)
    electronic = [_energies(step.find("energy")) for step in element.findall("scstep")]
    total = _energies(element.find("energy")).get("e_fr_energy")
    if total is not None:
        # VASP writes the enthalpy here; and its e_0_energy here is wrong, so the extrapolation is that of the last
        # electronic step, which in turn lacks dispersion corrections
        free = total - parameters.pressure_ev_ang3 * abs(atoms.cell.volume)
        atoms.info["free_energy"] = free
        if electronic and {"e_0_energy", "e_fr_energy"} <= electronic[-1].keys():
            atoms.info["energy"] = free + electronic[-1]["e_0_energy"] - electronic[-1]["e_fr_energy"]
    forces = _vectors(element.find("varray[@name='forces']"))
    if forces is not None:
        atoms.arrays["forces"] = forces
    stress = _vectors(element.find("varray[@name='stress']"))
    if stress is not None:
        atoms.info["stress"] = -_KBAR * stress  # VASP's is positive under compression
    return VaspStep(number, atoms, _is_vasprun_converged(electronic, parameters))


def _is_vasprun_converged(electronic: list[dict[str, float]], parameters: _Parameters) -> bool:
    """Whether the electronic steps ended before their largest number, or with a change below EDIFF."""
    if not electronic:
        return False
    if len(electronic) < parameters.n_max_electronic:
        return True
    last = [step.get("e_fr_energy", np.nan) for step in electronic[-2:]]
    return len(last) == 2 and abs(last[1] - last[0]) <= parameters.ediff_ev


def _energies(element: ElementTree.Element | None) -> dict[str, float]:
    if element is None:
        return {}
    return {item.get("name", ""): _number(item.text) for item in element.findall("i")}


def _vectors(element: ElementTree.Element | None) -> np.ndarray | None:
    if element is None:
        return None
    return np.array([[_number(word) for word in (row.text or "").split()] for row in element.findall("v")])


def _number(text: str | None) -> float:
    """A number as Fortran writes it: stars, where it does not fit, are NaN."""
    return float("nan") if text is None or "*" in text else float(text)


# --- OUTCAR ----------------------------------------------------------------------------------------------------------


def _read_outcar(text: str) -> VaspRun:
    stream = io.StringIO(text)
    symbols = _outcar_symbols(outcar_parsers.build_header(stream))
    header = {"symbols": symbols, "natoms": len(symbols)}
    parsers = [
        outcar_parsers.Cell(),
        outcar_parsers.PositionsAndForces(),
        outcar_parsers.Stress(),
        outcar_parsers.Energy(),
    ]
    chunk_parser = outcar_parsers.OutcarChunkParser(header, parsers)
    steps = []
    for number, lines in enumerate(_outcar_chunks(stream), start=1):
        atoms = chunk_parser.build(lines)
        results = atoms.calc.results if isinstance(atoms.calc, Calculator) else {}
        atoms.calc = None
        atoms.info |= {name: float(results[name]) for name in ("energy", "free_energy") if name in results}
        if "stress" in results:
            xx, yy, zz, yz, xz, xy = results["stress"]
            atoms.info["stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if "forces" in results:
            atoms.arrays["forces"] = np.asarray(results["forces"], dtype=float)
        is_converged = any("aborting loop because EDIFF is reached" in line for line in lines)
        steps.append(VaspStep(number, atoms, is_converged))
    return VaspRun(tuple(steps), "General timing and accounting" not in text)


def _outcar_symbols(header: list[str]) -> list[str]:
    """Chemical symbol of each atom; that ``VRHFIN`` names the element once for each type holds in all versions."""
    types = [line.split("=")[1].split(":")[0].strip() for line in header if "VRHFIN" in line]
    counts = next(([int(word) for word in line.split()[4:]] for line in header if "ions per type" in line), [])
    if not counts or len(counts) != len(types):
        raise StructureError(f"the header names {len(types)} elements and {len(counts)} numbers of atoms")
    return [symbol for symbol, n in zip(types, counts, strict=True) for _ in range(n)]


def _outcar_chunks(stream: io.StringIO) -> Iterator[list[str]]:
    while True:
        try:
            yield outcar_parsers.build_chunk(stream)
        except (StopIteration, RuntimeError):  # the end of the file, also within a step
            return
