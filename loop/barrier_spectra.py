"""Barrier spectra of many samples: which structures, and the tables that come of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from ..errors import StructureError
from ..generators.chemical_order import pair_excess
from ..structures.composition import format_composition
from ..structures.files import iterate_structures
from ..surrogates.barriers.base import BarrierModel
from ..surrogates.barriers.crystal_lattice import CrystalLattice
from ..surrogates.barriers.spectra import Direction, HopBlock, SpectraOptions, Spectrum, barrier_spectra, pooled
from ..surrogates.base import SurrogateError
from .hop_labelling import path_in

_ORDER_TABLE = "order.csv"
_ENERGY = "inherent_energy_ev_per_atom"
_N_ORDER_SHELLS = 2


@dataclass(frozen=True)
class Sample:
    """A structure to predict, and where it comes from.

    Attributes:
        name: ``path``, or ``path@index`` in a file of several, as tables name structures.
        atoms: the crystal.
        md_step: step of the run that it is a snapshot of, if any.
        energy_ev_per_atom: that the run's table tells of the snapshot, eV; NaN if none does.
    """

    name: str
    atoms: Atoms
    md_step: int | None = None
    energy_ev_per_atom: float = float("nan")


@dataclass(frozen=True)
class SampleSpectra:
    """What was predicted for a sample.

    Attributes:
        name: of the sample.
        n_atoms: of the structure.
        fractions: atomic fraction of each element in it.
        spectra: direction -> moving species -> spectrum.
        md_step: see :class:`Sample`.
        energy_ev_per_atom: see :class:`Sample`.
        delta: for snapshots of a run, pairs beyond the random mixture by the number of atoms, of each pair and shell.
    """

    name: str
    n_atoms: int
    fractions: Mapping[str, float]
    spectra: Mapping[Direction, Mapping[str, Spectrum]]
    md_step: int | None = None
    energy_ev_per_atom: float = float("nan")
    delta: Mapping[str, float] = field(default_factory=dict)

    @property
    def composition(self) -> str:
        """A formula such as ``Ta0.5Mo0.5``."""
        return format_composition(self.fractions)

    @property
    def n_hops(self) -> int:
        """Barriers of all species and directions."""
        return sum(s.n_hops for by_species in self.spectra.values() for s in by_species.values())


def samples(paths: Sequence[Path], folder: Path) -> Iterator[Sample]:
    """The structures of files, and the snapshots of folders that ``alloysmith order`` wrote, one at a time.

    Args:
        folder: that the tables will be in, which their paths are relative to.

    Raises:
        StructureError: a file cannot be read, or a folder holds no such run.
    """
    for path in paths:
        if path.is_dir():
            energies = _energies(path / _ORDER_TABLE)
            snapshots = sorted((path / "snapshots").glob("step_*.extxyz"))
            if not snapshots:
                raise StructureError(
                    f"{path} holds no snapshots/step_*.extxyz; name a structure file, or a folder of `alloysmith order`"
                )
            for snapshot in snapshots:
                for sample in _of_file(snapshot, folder):
                    yield Sample(sample.name, sample.atoms, sample.md_step, energies.get(sample.md_step, float("nan")))
        else:
            yield from _of_file(path, folder)


def _of_file(path: Path, folder: Path) -> Iterator[Sample]:
    """The structures of a file; whether it is the only one is known when the next is asked for."""
    name = path_in(path, folder)
    held: Atoms | None = None
    number = 0
    for atoms in iterate_structures(path):
        if held is not None:
            yield _sample(f"{name}@{number}", held)
            number += 1
        held = atoms
    if held is not None:
        yield _sample(f"{name}@{number}" if number else name, held)


def _sample(name: str, atoms: Atoms) -> Sample:
    step = atoms.info.get("md_step")
    return Sample(name, atoms, int(step) if isinstance(step, int | np.integer) else None)


def _energies(table: Path) -> dict[int | None, float]:
    """Step -> energy of the nearest minimum, eV per atom, of a run's table."""
    if not table.is_file():
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text())))
        return {int(row["step"]): float(row[_ENERGY]) for row in rows}
    except (OSError, KeyError, ValueError) as error:
        raise StructureError(f"{table} is not the table of an `alloysmith order` run ({error!r})") from error


def sample_spectra(
    model: BarrierModel,
    sample: Sample,
    options: SpectraOptions,
    on_block: Callable[[HopBlock], object] | None = None,
) -> SampleSpectra:
    """Predict a sample's spectra; see :func:`~alloysmith.surrogates.barriers.spectra.barrier_spectra`.

    Raises:
        StructureError: the structure is no FCC or BCC crystal; messages begin with its name.
        SurrogateError: an element or a phase that the model does not know.
    """
    atoms = sample.atoms
    try:
        spectra = barrier_spectra(model, atoms, options, on_block)
        delta = {} if sample.md_step is None else _delta(atoms)
    except (StructureError, SurrogateError) as error:
        raise type(error)(f"{sample.name}: {error}") from error
    symbols, counts = np.unique(atoms.get_chemical_symbols(), return_counts=True)
    fractions = dict(zip(symbols.tolist(), (counts / len(atoms)).tolist(), strict=True))
    return SampleSpectra(sample.name, len(atoms), fractions, spectra, sample.md_step, sample.energy_ev_per_atom, delta)


def _delta(atoms: Atoms) -> dict[str, float]:
    """Pairs beyond the random mixture, counted on the lattice whatever the displacements."""
    lattice = CrystalLattice.of(atoms)
    ideal = Atoms(numbers=atoms.numbers, positions=lattice.sites @ lattice.axes / 2.0, cell=atoms.cell, pbc=True)
    elements = sorted(set(atoms.get_chemical_symbols()))
    return pair_excess(ideal, lattice.phase, _N_ORDER_SHELLS, elements)


def elements_of(found: Sequence[SampleSpectra]) -> tuple[str, ...]:
    """All elements of the samples, alphabetically."""
    return tuple(sorted({element for sample in found for element in sample.fractions}))


def figures_table(found: Sequence[SampleSpectra]) -> str:
    """A row for each sample, direction and moving species (and ``all`` of them), as CSV."""
    elements = elements_of(found)
    has_steps = any(sample.md_step is not None for sample in found)
    pairs = sorted({pair for sample in found for pair in sample.delta})
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    run_columns = ["md_step", _ENERGY, *(f"delta {pair}" for pair in pairs)] if has_steps else []
    figures = ("mean_ev", "std_ev", "min_ev", "q05_ev", "median_ev", "q95_ev", "max_ev", "error_ev")
    writer.writerow(
        [
            *("structure", "composition", "n_atoms", *(f"x_{element}" for element in elements)),
            *(*run_columns, "moving_species", "direction", "n_hops", *figures),
        ]
    )
    for sample in found:
        head = [sample.name, sample.composition, sample.n_atoms]
        head += [f"{sample.fractions.get(element, 0.0):.6g}" for element in elements]
        if has_steps:
            head += ["" if sample.md_step is None else sample.md_step, _text(sample.energy_ev_per_atom)]
            head += [_text(sample.delta.get(pair, float("nan"))) for pair in pairs]
        for direction, by_species in sample.spectra.items():
            for species, spectrum in [*by_species.items(), ("all", pooled(list(by_species.values())))]:
                values = (
                    spectrum.mean_ev,
                    spectrum.std_ev,
                    spectrum.min_ev,
                    *(spectrum.quantile_ev(share) for share in (0.05, 0.5, 0.95)),
                    spectrum.max_ev,
                    spectrum.error_ev,
                )
                writer.writerow([*head, species, direction, spectrum.n_hops, *(_text(value) for value in values)])
    return buffer.getvalue()


def histogram_table(found: Sequence[SampleSpectra]) -> str:
    """A row for each bin that is not empty, as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["structure", "moving_species", "direction", "from_ev", "to_ev", "n_hops"])
    for sample in found:
        for direction, by_species in sample.spectra.items():
            for species, spectrum in by_species.items():
                edges = spectrum.edges_ev
                for k in np.flatnonzero(spectrum.counts).tolist():
                    bounds = f"{edges[k]:.6g}", f"{edges[k + 1]:.6g}"
                    writer.writerow([sample.name, species, direction, *bounds, int(spectrum.counts[k])])
    return buffer.getvalue()


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"
