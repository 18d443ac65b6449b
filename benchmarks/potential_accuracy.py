"""How near do fitted EAM and ADP potentials come to DFT, and at what speed, beside SNAP on the same split?

For each data set a random test part of the paper's share is set aside ("Machine learning enhanced empirical
potentials for metals and alloys", Comput. Phys. Commun. 2021). Compared on it are: the original ZJW04 potential (its
zero of energy shifted to the labels' by least squares over the elements, as is that of the published SNAP); potentials
fitted here with the fixed forms and with splines, without and with angular terms, all with the constraints of the
shipped configurations; and SNAP: fitted by FitSNAP to the same training frames if that is installed (`pip install
fitsnap3`), and as published, which has seen the test frames. Speed is that of LAMMPS' own pair styles in the same run:
NVE of some 2,000 atoms at 300 K, one core, CPU microseconds per atom and step.

    python benchmarks/potential_accuracy.py --data /path/to/data --sets ni mo
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.loop.cli.arguments import find_config
from alloysmith.loop.config import load_settings
from alloysmith.loop.potential_fitting import PotentialFitConfig
from alloysmith.loop.seeding import derive_seed
from alloysmith.oracles.base import OracleError, Request
from alloysmith.oracles.crystal_relaxation import RelaxationLimits, relax_crystal
from alloysmith.oracles.elastic_tensor import ElasticTensorSettings
from alloysmith.oracles.lammps_engine import LammpsEngine, potential_commands
from alloysmith.oracles.lammps_library import new_lammps
from alloysmith.oracles.potentials import FilesPotentialSettings, LammpsPotential
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.data_settings import DataSettings, FrameFileSettings
from alloysmith.surrogates.potentials.error_table import evaluate_errors
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_split import split_frames
from alloysmith.surrogates.potentials.frames import load_frames
from alloysmith.surrogates.potentials.native import native_suffix, write_native
from alloysmith.surrogates.potentials.staged_training import train_in_stages
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase import Atoms
from ase.build import bulk
from snap_peer import fit_snap, published_snap

FITTED = (
    ("EAM, fixed forms", {"functions": "zjw04", "embedding": "smooth", "angular": False}),
    ("EAM, splines", {"functions": "spline", "embedding": "spline", "angular": False}),
    ("ADP, fixed forms", {"functions": "zjw04", "embedding": "smooth", "angular": True}),
    ("ADP, splines", {"functions": "spline", "embedding": "spline", "angular": True}),
)
N_STEPS = 200


@dataclass(frozen=True)
class DataSet:
    """A set of the paper, what it found, and how it is fitted here.

    Attributes:
        config: shipped configuration that holds the constraints.
        test_share: the paper's.
        lattice, a_ang: crystal of the first element, whose elastic constants are compared.
        snap: published SNAP, and settings for FitSNAP.
        paper: model -> (energy MAE in meV/atom, force MAE in eV/Å).
    """

    files: tuple[str, ...]
    elements: tuple[str, ...]
    config: str
    test_share: float
    lattice: str
    a_ang: float
    snap: str
    snap_cutoff_ang: float
    paper: dict[str, tuple[float, float]]
    dft: str


SETS = {
    "ni": DataSet(
        files=("ni/Ni_dft.extxyz.gz",),
        elements=("Ni",),
        config="fit/eam_ni",
        test_share=61 / 461,
        lattice="fcc",
        a_ang=3.522,
        snap="Ni",
        snap_cutoff_ang=3.9,
        paper={"ZJW04": (10.6, 0.06), "SNAP": (1.2, 0.05), "ML-EAM": (3.9, 0.05)},
        dft="276/159/132 GPa, 1.46 eV",
    ),
    "mo": DataSet(
        files=("mo/Mo_dft.extxyz.gz",),
        elements=("Mo",),
        config="fit/adp_mo",
        test_share=34 / 284,
        lattice="bcc",
        a_ang=3.1695,
        snap="Mo",
        snap_cutoff_ang=4.6,
        paper={"ZJW04": (58.9, 0.31), "SNAP": (13.2, 0.25), "ML-EAM": (23.8, 0.30), "ML-ADP": (18.7, 0.29)},
        dft="472/158/106 GPa, 2.87 eV",
    ),
    "nimo": DataSet(
        files=("ni/Ni_dft.extxyz.gz", "mo/Mo_dft.extxyz.gz", "nimo/NiMo_elastic_dft.extxyz.gz"),
        elements=("Ni", "Mo"),
        config="fit/adp_nimo",
        test_share=300 / 3973,
        lattice="fcc",
        a_ang=3.522,
        snap="Ni_Mo",
        snap_cutoff_ang=4.0,
        paper={"SNAP": (22.5, 0.23), "ML-EAM": (26.2, 0.23), "ML-ADP": (19.6, 0.20)},
        dft="276/159/132 GPa, 1.46 eV",
    ),
}

Evaluate = Callable[[Atoms], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    n_parameters: int | None
    test: tuple[float, float]
    whole: tuple[float, float]
    crystal: str
    us_per_atom_step: float | None
    fit_cpu_s: float | None


def main() -> None:
    """Fit, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["ni", "mo"])
    parser.add_argument("--models", nargs="+", default=[name for name, _ in FITTED], help="which fits to run")
    parser.add_argument("--max-epochs", type=int, default=None, help="of each stage; the configuration's by default")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"{arguments.data} is no folder; give the folder of the published data with --data")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets:
            compare(name, arguments, Path(folder))


def compare(name: str, arguments: argparse.Namespace, folder: Path) -> None:
    """The table of one data set."""
    data_set = SETS[name]
    files = tuple(FrameFileSettings(path=str((arguments.data / file).resolve())) for file in data_set.files)
    config: PotentialFitConfig = load_settings(find_config(data_set.config), PotentialFitConfig, [])
    shipped = config.data or DataSettings(files=files)
    settings = shipped.model_copy(update={"files": files, "test_fraction": data_set.test_share})
    frames = load_frames(settings, data_set.elements)
    parts = split_frames(frames, settings, seed=derive_seed(arguments.seed, 0, "split"))
    learnt = [*parts.train, *parts.validation]
    print(
        f"\n### {name}: {len(parts.train)} + {len(parts.validation)} frames to learn from, {len(parts.test)} to test\n"
    )
    header = ("potential", "parameters", "test E (meV/atom)", "test F (eV/Å)", "all E", "all F", "C11/C12/C44, E_v")
    print("| " + " | ".join((*header, "µs/atom/step", "fit CPU-s")) + " |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for label, (energy, force) in data_set.paper.items():
        print(f"| paper: {label} | | {energy:.1f} | {force:.2f} | | | DFT {data_set.dft} | | |", flush=True)
    everything = [*learnt, *parts.test]
    model = EamSettings(embedding="piecewise", taper_ang=0.0).build(data_set.elements)
    original = TorchPotential(PotentialSpec("eam", data_set.elements, model.cutoff_ang), model)
    show(row_of_potential("ZJW04, as published", original, data_set, parts.test, everything, folder, shift=True))
    for label, changes in FITTED:
        if label in arguments.models:
            fitted, cpu_s = fit(data_set, changes, parts.train, parts.validation, arguments)
            row = row_of_potential(label, fitted, data_set, parts.test, everything, folder, cpu_s=cpu_s)
            show(row)
            if len(data_set.elements) > 1:
                print("\n".join(evaluate_errors(fitted.model, by_composition(parts.test)).lines()), flush=True)
    published = published_snap(arguments.data / "potentials" / "snap", data_set.snap, data_set.elements, folder)
    # shifted like ZJW04: that of Mo counts energies from another zero than the data
    show(
        row_of_lammps("SNAP, published (saw the test frames)", published, data_set, parts.test, everything, shift=True)
    )
    if find_spec("fitsnap3lib") is None:
        print("FitSNAP is not installed: pip install fitsnap3", flush=True)
        return
    started = time.process_time()
    fitted_snap = fit_snap(learnt, data_set.elements, data_set.snap_cutoff_ang, folder)
    cpu_s = time.process_time() - started
    show(row_of_lammps("SNAP, FitSNAP on this split", fitted_snap, data_set, parts.test, everything, cpu_s=cpu_s))


def by_composition(frames: Sequence[Frame]) -> list[Frame]:
    """The same frames, grouped by what they are made of."""
    return [replace(frame, group=str(frame.atoms.symbols.formula.reduce()[0])) for frame in frames]


def show(row: Row) -> None:
    """Print a line of the table."""
    cells = [
        row.name,
        "" if row.n_parameters is None else str(row.n_parameters),
        f"{row.test[0]:.2f}",
        f"{row.test[1]:.4f}",
        f"{row.whole[0]:.2f}",
        f"{row.whole[1]:.4f}",
        row.crystal,
        "" if row.us_per_atom_step is None else f"{row.us_per_atom_step:.2f}",
        "" if row.fit_cpu_s is None else f"{row.fit_cpu_s:.0f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def fit(
    data_set: DataSet,
    changes: dict[str, Any],
    train: Sequence[Frame],
    validation: Sequence[Frame],
    arguments: argparse.Namespace,
) -> tuple[TorchPotential, float]:
    """A potential fitted with the shipped configuration's constraints, and the CPU seconds it took."""
    overrides = [f"potential.{key}={str(value).lower()}" for key, value in changes.items()]
    config: PotentialFitConfig = load_settings(find_config(data_set.config), PotentialFitConfig, overrides)
    training, warm_up = config.training, config.warm_up_epochs
    if arguments.max_epochs is not None:
        training = training.model_copy(update={"max_epochs": arguments.max_epochs})
        warm_up = min(warm_up, arguments.max_epochs)
    model = config.potential.build(data_set.elements)
    constraints = [constraint.build(data_set.elements, model.cutoff_ang) for constraint in config.constraints]

    started = time.process_time()
    result = train_in_stages(
        model,
        train,
        validation,
        constraints,
        training,
        warm_up_epochs=warm_up,
        warm_up_frames=config.warm_up_frames,
        seed=derive_seed(arguments.seed, 0, "training"),
    )
    spec = PotentialSpec("eam", data_set.elements, model.cutoff_ang, n_train=len(train))
    return TorchPotential(spec, result.model), time.process_time() - started


def row_of_potential(
    name: str,
    potential: TorchPotential,
    data_set: DataSet,
    test: Sequence[Frame],
    everything: Sequence[Frame],
    folder: Path,
    *,
    shift: bool = False,
    cpu_s: float | None = None,
) -> Row:
    """Errors of a potential of ours; its crystal and its speed from its table in LAMMPS."""
    path = folder / f"{name.replace(' ', '_').replace(',', '')}{native_suffix(potential)}"
    lammps = write_native(potential, path)
    found = potential.evaluate([frame.atoms for frame in everything])
    answers = [(value.energy_ev, value.forces) for value in found]
    n = sum(parameter.numel() for parameter in potential.model.parameters() if parameter.requires_grad)
    return _row(name, n, answers, lammps, data_set, test, everything, shift=shift, cpu_s=cpu_s)


def row_of_lammps(
    name: str,
    lammps: LammpsPotential,
    data_set: DataSet,
    test: Sequence[Frame],
    everything: Sequence[Frame],
    *,
    shift: bool = False,
    cpu_s: float | None = None,
) -> Row:
    """Errors, crystal and speed of a potential that LAMMPS evaluates."""
    engine = LammpsEngine(lammps)
    found = [engine.compute(frame.atoms) for frame in everything]
    engine.close()
    answers = [(value.energy_ev, value.forces) for value in found]
    return _row(name, None, answers, lammps, data_set, test, everything, shift=shift, cpu_s=cpu_s)


def _row(
    name: str,
    n_parameters: int | None,
    answers: Sequence[tuple[float, np.ndarray]],
    lammps: LammpsPotential,
    data_set: DataSet,
    test: Sequence[Frame],
    everything: Sequence[Frame],
    *,
    shift: bool = False,
    cpu_s: float | None = None,
) -> Row:
    counts = np.array([[(f.atoms.symbols == s).sum() for s in data_set.elements] for f in everything], dtype=float)
    sizes = counts.sum(axis=1)
    differences = np.array([energy - frame.energy_ev for (energy, _), frame in zip(answers, everything, strict=True)])
    if shift:
        offsets = np.linalg.lstsq(counts / sizes[:, None], differences / sizes, rcond=None)[0]
        differences = differences - counts @ offsets
    energies = np.abs(differences) / sizes * 1000.0
    forces = [np.abs(f - frame.forces).ravel() for (_, f), frame in zip(answers, everything, strict=True)]
    n_test = len(test)
    return Row(
        name,
        n_parameters,
        (float(energies[-n_test:].mean()), float(np.concatenate(forces[-n_test:]).mean())),
        (float(energies.mean()), float(np.concatenate(forces).mean())),
        crystal_of(lammps, data_set),
        speed_of(lammps, data_set),
        cpu_s,
    )


def crystal_of(lammps: LammpsPotential, data_set: DataSet) -> str:
    """Elastic constants and vacancy formation energy of the first element's crystal."""
    try:
        settings = FilesPotentialSettings(
            pair_style=lammps.commands[0].removeprefix("pair_style "),
            pair_coeff=tuple(command.removeprefix("pair_coeff ") for command in lammps.commands[1:]),
            elements=lammps.elements,
        )
        oracle = ElasticTensorSettings(potential=settings).build()
        cell = bulk(data_set.elements[0], data_set.lattice, a=data_set.a_ang, cubic=True)
        label = oracle.evaluate(Request("crystal", cell))
        oracle.close()
        tensor = np.asarray(label.values["elastic_tensor_gpa"])
        constants = "/".join(f"{value:.0f}" for value in (tensor[0, 0], tensor[0, 1], tensor[3, 3]))
        return f"{constants} GPa, {vacancy_ev(lammps, label.atoms):.2f} eV"
    except OracleError as error:
        return f"{error.kind}"


def vacancy_ev(lammps: LammpsPotential, cell: Atoms) -> float:
    """Formation energy of a vacancy in 4 × 4 × 4 (fcc) or 5 × 5 × 5 (bcc) cubic cells with relaxed ions, eV."""
    engine = LammpsEngine(lammps)
    perfect = cell.repeat(4 if len(cell) == 4 else 5)
    energy = engine.compute(perfect).energy_ev
    vacant = perfect.copy()
    del vacant[0]
    engine.load(vacant)
    limits = RelaxationLimits(force_ev_ang=1e-3, stress_ev_ang3=np.inf)
    relaxed = relax_crystal(engine, vacant, cell_freedom="fixed", bulk_modulus_ev_ang3=1.2, limits=limits)
    engine.close()
    return relaxed.evaluation.energy_ev - energy * (len(perfect) - 1) / len(perfect)


def speed_of(lammps: LammpsPotential, data_set: DataSet) -> float | None:
    """CPU microseconds per atom and step of NVE in LAMMPS, the median of three runs; ``None`` if it explodes."""
    cell = bulk(data_set.elements[0], data_set.lattice, a=data_set.a_ang, cubic=True)
    n = round((2000 / len(cell)) ** (1 / 3))
    lmp = new_lammps()
    try:
        for command in (
            "units metal",
            "atom_style atomic",
            "boundary p p p",
            f"lattice {data_set.lattice} {data_set.a_ang}",
            f"region box block 0 {n} 0 {n} 0 {n}",
            f"create_box {len(lammps.elements)} box",
            "create_atoms 1 box",
            *potential_commands(lammps),
            "velocity all create 600 4711 loop geom",
            "fix 1 all nve",
            "run 20",
        ):
            lmp.command(command)
        n_atoms = lmp.get_natoms()
        times = []
        for _ in range(3):
            started = time.process_time()
            lmp.command(f"run {N_STEPS} post no")
            times.append(time.process_time() - started)
    except Exception:  # noqa: BLE001 - LAMMPS raises nothing finer; a potential that loses atoms has no speed
        return None
    finally:
        lmp.close()
    if n_atoms != len(cell) * n**3:
        raise RuntimeError(f"LAMMPS made {n_atoms} atoms in {n}³ cells of {len(cell)}")
    return float(np.median(times)) / (N_STEPS * n_atoms) * 1e6


if __name__ == "__main__":
    main()
