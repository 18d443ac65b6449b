"""Bulk modulus and elastic tensor: against published values, the energy-volume curve, and symmetry."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError, Request, WarmStart
from alloysmith.oracles.bulk_modulus import BulkModulusSettings, LammpsBulkModulus
from alloysmith.oracles.elastic_tensor import ElasticTensorSettings, elastic_moduli
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import FilesPotentialSettings, WheelPotentialSettings
from alloysmith.oracles.relaxation import RelaxationSettings
from ase import Atoms
from ase.build import bulk
from ase.io import read

MakeAlloy = Callable[..., Atoms]


@pytest.fixture(scope="module")
def fast(nifecr: WheelPotentialSettings) -> Iterator[LammpsBulkModulus]:
    oracle = BulkModulusSettings(potential=nifecr).build()
    yield oracle
    oracle.close()


@pytest.fixture(scope="module")
def tight(nifecr: WheelPotentialSettings) -> Iterator[LammpsBulkModulus]:
    oracle = BulkModulusSettings(potential=nifecr, accuracy="tight").build()
    yield oracle
    oracle.close()


def nickel_moduli(potential: WheelPotentialSettings | FilesPotentialSettings) -> dict:
    oracle = ElasticTensorSettings(potential=potential).build()
    label = oracle.evaluate(Request("ni", bulk("Ni", cubic=True, a=3.45).repeat(2), "fcc"))
    oracle.close()
    return dict(label.values)


def test_nickel_of_the_wheel(nifecr: WheelPotentialSettings) -> None:
    values = nickel_moduli(nifecr)
    assert values["bulk_modulus_gpa"] == pytest.approx(187.6, abs=0.2)
    assert values["shear_modulus_gpa"] == pytest.approx(92.9, abs=0.2)
    assert values["is_mechanically_stable"] == 1.0


def test_nickel_of_the_published_potential(published_meam: FilesPotentialSettings) -> None:
    values = nickel_moduli(published_meam)
    assert values["bulk_modulus_gpa"] == pytest.approx(187.6, abs=0.2)
    assert values["shear_modulus_gpa"] == pytest.approx(92.9, abs=0.2)


def test_tensor_of_a_cubic_crystal_is_cubic(nifecr: WheelPotentialSettings) -> None:
    c = nickel_moduli(nifecr)["elastic_tensor_gpa"]
    c11, c12, c44 = c[0, 0], c[0, 1], c[3, 3]
    cubic = np.diag([c11 - c12] * 3 + [c44] * 3)
    cubic[:3, :3] += c12
    np.testing.assert_allclose(c, cubic, atol=0.01)
    assert (c11 + 2.0 * c12) / 3.0 == pytest.approx(187.6, abs=0.2)


@pytest.mark.parametrize("phase", ["fcc", "bcc"])
def test_bulk_modulus_is_the_curvature_of_the_relaxed_energy(
    tight: LammpsBulkModulus, phase: str, nifecr: WheelPotentialSettings, make_alloy: MakeAlloy
) -> None:
    atoms = make_alloy(seed=3, phase=phase, repeat=2 if phase == "fcc" else 3, rattle_ang=0.0)
    if phase == "bcc":
        atoms.numbers[np.isin(atoms.numbers, [28])] = 24  # Fe-Cr, which is stable in BCC
    label = tight.evaluate(Request("x", atoms, phase))
    volume_ang3 = label.atoms.get_volume()
    relax = RelaxationSettings(potential=nifecr, cell="fixed", max_force_ev_ang=1e-6).build()
    strains = np.array([-0.004, -0.002, 0.0, 0.002, 0.004])
    energies = []
    for strain in strains:
        strained = label.atoms.copy()
        strained.set_cell(label.atoms.cell.array * (1.0 + strain) ** (1.0 / 3.0), scale_atoms=True)
        energies.append(relax.evaluate(Request("v", strained)).values["energy_ev"])
    relax.close()
    curvature = 2.0 * np.polynomial.Polynomial.fit(strains, energies, 4).convert().coef[2]
    assert label.values["bulk_modulus_gpa"] == pytest.approx(curvature / volume_ang3 * 160.21766208, abs=0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_fast_is_close_to_tight_cold_and_warm(
    fast: LammpsBulkModulus, tight: LammpsBulkModulus, seed: int, make_alloy: MakeAlloy
) -> None:
    parent = make_alloy(seed=seed, rattle_ang=0.0, repeat=3)
    parent_label = fast.evaluate(Request("parent", parent, "fcc"))
    child = parent.copy()
    j = int(np.flatnonzero(child.numbers != child.numbers[0])[5])
    child.numbers[[0, j]] = child.numbers[[j, 0]]
    warm = WarmStart(parent_label.atoms, {"bulk_modulus_gpa": float(parent_label.values["bulk_modulus_gpa"])})
    reference = tight.evaluate(Request("child", child, "fcc")).values["bulk_modulus_gpa"]
    cold_label = fast.evaluate(Request("child", child, "fcc"))
    warm_label = fast.evaluate(Request("child", child, "fcc", warm))
    assert cold_label.values["bulk_modulus_gpa"] == pytest.approx(reference, abs=0.05)
    assert warm_label.values["bulk_modulus_gpa"] == pytest.approx(reference, abs=0.05)
    assert warm_label.details["is_warm_started"]
    assert warm_label.details["n_force_calls"] <= 20
    assert warm_label.atoms.get_chemical_symbols() == child.get_chemical_symbols()


def test_a_bad_first_volume_does_not_matter(fast: LammpsBulkModulus, make_alloy: MakeAlloy) -> None:
    values = []
    for scale in (0.975, 1.0, 1.03):
        atoms = make_alloy(seed=5, rattle_ang=0.0)
        atoms.set_cell(scale * atoms.cell.array, scale_atoms=True)
        values.append(fast.evaluate(Request("x", atoms, "fcc")).values["bulk_modulus_gpa"])
    assert np.ptp(values) < 0.05


def test_labels_do_not_depend_on_what_was_evaluated_before(
    fast: LammpsBulkModulus, nifecr: WheelPotentialSettings, make_alloy: MakeAlloy
) -> None:
    one, two = (Request(str(seed), make_alloy(seed=seed, rattle_ang=0.0), "fcc") for seed in (7, 8))
    first = fast.evaluate(one)
    fast.evaluate(two)
    again = fast.evaluate(one)
    fresh_oracle = BulkModulusSettings(potential=nifecr).build()
    fresh = fresh_oracle.evaluate(one)
    fresh_oracle.close()
    for other in (again, fresh):
        assert dict(other.values) == dict(first.values)
        assert other.atoms.positions.tobytes() == first.atoms.positions.tobytes()


@pytest.mark.parametrize(
    ("name", "element"), [("Al_zhou.eam.alloy", "Al"), ("W_zhou.eam.alloy", "W"), ("Cu_zhou.eam.alloy", "Cu")]
)
def test_soft_and_hard_metals_from_a_poor_guess(name: str, element: str) -> None:
    oracle = BulkModulusSettings(potential=WheelPotentialSettings(name=name)).build()
    atoms = bulk(element, cubic=True).repeat(2)
    atoms.set_cell(1.01 * atoms.cell.array, scale_atoms=True)
    label = oracle.evaluate(Request(element, atoms, "bcc" if element == "W" else "fcc"))
    oracle.close()
    engine = LammpsEngine(WheelPotentialSettings(name=name).load())
    strains = np.linspace(-0.006, 0.006, 7)
    energies = []
    for strain in strains:
        strained = label.atoms.copy()
        strained.set_cell(label.atoms.cell.array * (1.0 + strain) ** (1.0 / 3.0), scale_atoms=True)
        energies.append(engine.compute(strained).energy_ev)
    engine.close()
    curvature = 2.0 * np.polynomial.Polynomial.fit(strains, energies, 4).convert().coef[2]
    expected_gpa = curvature / label.atoms.get_volume() * 160.21766208
    assert label.values["bulk_modulus_gpa"] == pytest.approx(expected_gpa, rel=0.005)


def test_elastic_tensor_and_bulk_modulus_oracles_agree(
    tight: LammpsBulkModulus, nifecr: WheelPotentialSettings, make_alloy: MakeAlloy
) -> None:
    atoms = make_alloy(seed=2, rattle_ang=0.0)
    oracle = ElasticTensorSettings(potential=nifecr, accuracy="tight").build()
    values = oracle.evaluate(Request("x", atoms, "fcc")).values
    oracle.close()
    reference = tight.evaluate(Request("x", atoms, "fcc")).values["bulk_modulus_gpa"]
    assert values["bulk_modulus_voigt_gpa"] == pytest.approx(reference, abs=0.05)
    assert values["bulk_modulus_reuss_gpa"] <= values["bulk_modulus_voigt_gpa"]
    assert values["shear_modulus_reuss_gpa"] < values["shear_modulus_gpa"] < values["shear_modulus_voigt_gpa"]
    assert np.abs(values["elastic_tensor_gpa"][0, 3]) > 0.01  # an alloy's ordering is not cubic


def test_moduli_of_an_isotropic_and_of_an_unstable_tensor() -> None:
    bulk_gpa, shear_gpa = 170.0, 80.0
    c = np.diag([2.0 * shear_gpa] * 3 + [shear_gpa] * 3)
    c[:3, :3] += bulk_gpa - 2.0 / 3.0 * shear_gpa
    values = elastic_moduli(c)
    assert values["bulk_modulus_gpa"] == pytest.approx(bulk_gpa)
    assert values["shear_modulus_gpa"] == pytest.approx(shear_gpa)
    assert values["shear_modulus_reuss_gpa"] == pytest.approx(values["shear_modulus_voigt_gpa"])
    assert values["youngs_modulus_gpa"] == pytest.approx(2.0 * shear_gpa * (1.0 + float(values["poisson_ratio"])))
    c[4, 4] = -5.0
    unstable = elastic_moduli(c)
    assert unstable["is_mechanically_stable"] == 0.0
    assert unstable["min_elastic_eigenvalue_gpa"] == pytest.approx(-5.0)


def test_a_structure_that_leaves_its_phase_is_a_failure(fast: LammpsBulkModulus) -> None:
    atoms = bulk("Ni", "bcc", a=2.8, cubic=True).repeat(3)  # nickel is not stable in BCC once it is disturbed
    atoms.set_initial_magnetic_moments(None)
    atoms.rattle(0.1, seed=1)
    with pytest.raises(OracleError) as caught:
        fast.evaluate(Request("x", atoms, "bcc"))
    assert caught.value.kind is FailureKind.LEFT_PHASE
    assert sum(caught.value.details["fractions"].values()) == pytest.approx(1.0)


def test_too_few_force_calls_are_a_failure(nifecr: WheelPotentialSettings, make_alloy: MakeAlloy) -> None:
    oracle = BulkModulusSettings(potential=nifecr, accuracy="tight", max_force_calls=10).build()
    with pytest.raises(OracleError) as caught:
        oracle.evaluate(Request("x", make_alloy(seed=1, rattle_ang=0.1), "fcc"))
    oracle.close()
    assert caught.value.kind is FailureKind.NOT_CONVERGED
    assert caught.value.details["max_force_ev_ang"] > 0.0


def test_published_labels_are_reproduced(shared_data: Path, published_meam: FilesPotentialSettings) -> None:
    with gzip.open(shared_data / "nifecr" / "localsearch_aug_train.extxyz.gz", "rt") as stream:
        frames = read(io.StringIO(stream.read()), ":", format="extxyz")
    ternaries: list[Atoms] = [atoms for atoms in frames if len(set(atoms.numbers)) == 3][:25]
    oracle = BulkModulusSettings(potential=published_meam).build()
    differences = []
    for atoms in ternaries:
        label = oracle.evaluate(Request("x", atoms, atoms.info["phase"]))
        differences.append(label.values["bulk_modulus_gpa"] - atoms.info["bulk_modulus_GPa"])
    oracle.close()
    assert np.median(np.abs(differences)) < 0.25


def test_snap_of_another_system(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "potentials" / "snap"
    (tmp_path / "x.snapcoeff").write_bytes((folder / "Ta-W-Nb-Mo.snapcoeff").read_bytes())
    lines = (folder / "Ta-W-Nb-Mo.snapparam").read_text().splitlines()
    (tmp_path / "x.snapparam").write_text("\n".join(line for line in lines if "diagonalstyle" not in line))
    potential = FilesPotentialSettings(
        pair_style="snap", pair_coeff=("* * x.snapcoeff x.snapparam Ta W Nb Mo",), base_dir=tmp_path
    )
    oracle = BulkModulusSettings(potential=potential).build()
    atoms = bulk("W", "bcc", a=3.24, cubic=True).repeat(2)
    atoms.set_chemical_symbols(["Ta", "W", "Nb", "Mo"] * 4)
    label = oracle.evaluate(Request("x", atoms, "bcc"))
    oracle.close()
    assert label.values["bulk_modulus_gpa"] == pytest.approx(220.0, abs=30.0)
