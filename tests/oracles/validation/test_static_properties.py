"""Static properties against published values and against calculations that share no code with ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError, Request
from alloysmith.oracles.elastic_tensor import ElasticTensorSettings
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potential_files import wheel_folder
from alloysmith.oracles.potentials import WheelPotentialSettings
from alloysmith.oracles.validation.crystal import Crystal, ValidatedCrystal, equilibrium, supercell
from alloysmith.oracles.validation.elastic_constants import ElasticConstantsSettings, elastic_constants
from alloysmith.oracles.validation.equation_of_state import EquationOfStateSettings, energy_volume_curve
from alloysmith.oracles.validation.phases import PhasesSettings, phase_energies
from alloysmith.oracles.validation.phonons import PhononsSettings, force_constants, phonons
from alloysmith.oracles.validation.surfaces import SurfacesSettings, slab_of, surface_energies
from alloysmith.oracles.validation.vacancy import VacancySettings, vacancy_formation
from alloysmith.oracles.validation.vacancy_migration import VacancyMigrationSettings, vacancy_migration
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.engine import PotentialEngine
from alloysmith.surrogates.potentials.native import write_native
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.eam import EAM
from ase.mep import NEB
from ase.optimize import BFGS
from pydantic import ValidationError

MISHIN = "Cu_mishin1.eam.alloy"
TUNGSTEN = WheelPotentialSettings(name="W_zhou.eam.alloy")
FCC_CU = ValidatedCrystal(lattice="fcc", formula="Cu").crystal()
BCC_CU = ValidatedCrystal(lattice="bcc", formula="Cu").crystal()
BCC_W = ValidatedCrystal(lattice="bcc", formula="W").crystal()
SMALL = 7.0
"""Smallest length of supercells that are compared with slow calculations: 2 cells of copper, 31 atoms."""


@pytest.fixture(scope="module")
def copper() -> Iterator[LammpsEngine]:
    engine = LammpsEngine(WheelPotentialSettings(name=MISHIN).load())
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tungsten() -> Iterator[LammpsEngine]:
    engine = LammpsEngine(TUNGSTEN.load())
    yield engine
    engine.close()


def ase_copper() -> EAM:
    """ASE's own reader and evaluation of the same file."""
    return EAM(potential=str(wheel_folder() / MISHIN))


class TestPublishedValues:
    """Y. Mishin et al., Phys. Rev. B 63, 224106 (2001), tables II, III and VI: their potential EAM1."""

    def test_equation_of_state(self, copper: LammpsEngine) -> None:
        curve = energy_volume_curve(copper, FCC_CU, EquationOfStateSettings())
        assert curve.lattice_constants_ang == pytest.approx((3.615,) * 3, abs=5e-4)
        assert curve.cohesive_energy_ev_per_atom == pytest.approx(3.54, abs=1e-3)
        assert curve.bulk_modulus_gpa == pytest.approx(138.3, rel=0.01)

    def test_elastic_constants(self, copper: LammpsEngine) -> None:
        found = elastic_constants(copper, FCC_CU, ElasticConstantsSettings())
        expected = {"c11_gpa": 169.9, "c12_gpa": 122.6, "c44_gpa": 76.2}
        assert found.constants_gpa == pytest.approx(expected, abs=0.15)
        assert found.is_stable

    def test_vacancy(self, copper: LammpsEngine) -> None:
        formed = vacancy_formation(copper, FCC_CU, VacancySettings())
        assert formed.formation_energy_ev == pytest.approx(1.272, abs=0.005)
        assert formed.unrelaxed_energy_ev > formed.formation_energy_ev
        hop = vacancy_migration(copper, FCC_CU, VacancyMigrationSettings(min_length_ang=10.5, n_images=3))
        assert hop.migration_energy_ev == pytest.approx(0.689, abs=0.005)
        assert hop.values()["vacancy_activation_energy_ev"] == pytest.approx(1.961, abs=0.01)
        assert hop.energies_ev[-1] == pytest.approx(0.0, abs=1e-3), "both ends are the same vacancy"
        assert hop.hop_ang == pytest.approx(3.615 / np.sqrt(2.0), abs=1e-3)

    def test_surfaces(self, copper: LammpsEngine) -> None:
        found = surface_energies(copper, FCC_CU, SurfacesSettings())
        published = {(1, 1, 1): 1.239, (1, 0, 0): 1.345, (1, 1, 0): 1.475}
        assert {s.miller: s.energy_j_m2 for s in found.surfaces} == pytest.approx(published, abs=0.002)
        assert found.surfaces[0].energy_mev_ang2 == pytest.approx(1239 / 16.0218, abs=0.2)

    def test_phases(self, copper: LammpsEngine) -> None:
        found = phase_energies(copper, FCC_CU, PhasesSettings())
        assert found.energies_ev_per_atom == pytest.approx({"bcc": 0.046, "hcp": 0.008}, abs=6e-4)

    def test_phonons(self, copper: LammpsEngine) -> None:
        found = phonons(copper, FCC_CU, PhononsSettings(min_length_ang=11.0, mesh=8, points_per_segment=3))
        assert found.special_points_thz["X"] == pytest.approx((5.20, 5.20, 7.82), abs=0.02)
        assert found.special_points_thz["L"][2] == pytest.approx(7.78, abs=0.02)
        assert found.is_stable
        # three branches of one atom
        area = np.trapezoid(found.dos_per_thz, found.dos_frequencies_thz)
        assert area == pytest.approx(3.0, rel=0.02)


def test_the_pressure_is_the_slope_of_the_curve(copper: LammpsEngine) -> None:
    curve = energy_volume_curve(copper, FCC_CU, EquationOfStateSettings(n_points=69))
    volumes, energies = np.array(curve.volumes_ang3_per_atom), np.array(curve.energies_ev_per_atom)
    slopes = -np.gradient(energies, volumes)[2:-2] * 160.21766
    np.testing.assert_allclose(slopes, curve.pressures_gpa[2:-2], atol=0.3)
    fitted = curve.fitted(volumes)
    is_near = np.abs(volumes / curve.volume_ang3_per_atom - 1.0) < 0.02
    np.testing.assert_allclose(fitted[is_near], energies[is_near], atol=2e-5)


def test_moduli_of_both_methods_and_the_oracle_agree(tungsten: LammpsEngine) -> None:
    constants = elastic_constants(tungsten, BCC_W, ElasticConstantsSettings())
    curve = energy_volume_curve(tungsten, BCC_W, EquationOfStateSettings())
    assert curve.bulk_modulus_gpa == pytest.approx(constants.bulk_modulus_gpa, rel=2e-3)
    oracle = ElasticTensorSettings(potential=TUNGSTEN, accuracy="tight").build()
    label = oracle.evaluate(Request("w", bulk("W", cubic=True).repeat(2), "bcc"))
    oracle.close()
    np.testing.assert_allclose(label.values["elastic_tensor_gpa"], constants.tensor_gpa, atol=0.02)
    assert label.values["shear_modulus_gpa"] == pytest.approx(constants.shear_modulus_gpa, abs=0.02)


def test_a_vacancy_as_ase_relaxes_it(copper: LammpsEngine) -> None:
    ours = vacancy_formation(copper, FCC_CU, VacancySettings(min_length_ang=SMALL))
    crystal = equilibrium(copper, FCC_CU).atoms
    crystal.calc = ase_copper()
    per_atom = crystal.get_potential_energy() / len(crystal)
    defective = crystal.repeat(2)
    del defective[0]
    defective.calc = ase_copper()
    BFGS(defective, logfile=None).run(fmax=2e-3, steps=30)
    theirs = defective.get_potential_energy() - len(defective) * per_atom
    assert ours.n_atoms == len(defective)
    assert ours.formation_energy_ev == pytest.approx(theirs, abs=1e-3)


def test_a_surface_as_ase_relaxes_it(copper: LammpsEngine) -> None:
    settings = SurfacesSettings(miller=((1, 1, 0),), min_thickness_ang=12.0)
    ours = surface_energies(copper, FCC_CU, settings).surfaces[0]
    crystal = equilibrium(copper, FCC_CU).atoms
    slab, thickness = slab_of(crystal, (1, 1, 0), 12.0, settings.vacuum_ang)
    crystal.calc = ase_copper()
    slab.calc = ase_copper()
    BFGS(slab, logfile=None).run(fmax=2e-3, steps=60)
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    excess = slab.get_potential_energy() - len(slab) * crystal.get_potential_energy() / len(crystal)
    assert ours.energy_j_m2 == pytest.approx(excess / (2.0 * area) / (units.J / units.m**2), abs=2e-3)
    assert thickness >= 12.0
    assert thickness * area == pytest.approx(len(slab) * crystal.get_volume() / 4)


@pytest.mark.slow
def test_a_barrier_as_ase_finds_it(copper: LammpsEngine) -> None:
    ours = vacancy_migration(copper, FCC_CU, VacancyMigrationSettings(min_length_ang=SMALL, n_images=3))
    perfect = equilibrium(copper, FCC_CU).atoms.repeat(2)
    start, end = perfect.copy(), perfect.copy()
    neighbour = int(np.argmin([perfect.get_distance(0, k, mic=True) for k in range(1, len(perfect))])) + 1
    end.positions[neighbour] = perfect.positions[0]
    images = [start]
    for atoms in (start, end):
        del atoms[0]
        atoms.calc = ase_copper()
        BFGS(atoms, logfile=None).run(fmax=5e-3, steps=60)
    images = [start, *(start.copy() for _ in range(3)), end]
    for image in images[1:-1]:
        image.calc = ase_copper()
    band = NEB(images, k=1.0, climb=True, method="aseneb")
    band.interpolate(mic=True)
    assert BFGS(band, logfile=None).run(fmax=0.02, steps=80)
    energies = [image.get_potential_energy() for image in images]
    assert ours.migration_energy_ev == pytest.approx(max(energies) - energies[0], abs=2e-3)


def test_phonons_as_a_dynamical_matrix_by_hand(tungsten: LammpsEngine) -> None:
    settings = PhononsSettings(min_length_ang=9.0)
    cell = equilibrium(tungsten, BCC_W).atoms
    theirs = force_constants(tungsten, cell, settings)
    large = supercell(cell, settings.min_length_ang)
    columns = []
    step = 1e-3
    for axis in range(3):
        forces = []
        for sign in (1.0, -1.0):
            moved = large.copy()
            moved.positions[0, axis] += sign * step
            forces.append(tungsten.compute(moved).forces)
        columns.append(-(forces[0] - forces[1]) / (2.0 * step))
    constants = np.stack(columns)  # [3, n_atoms, 3]
    # a wave that fits the supercell has the same phase at all images of an atom
    wave = 2.0 * np.pi * np.array([1.0, 2.0, 0.0]) / np.diag(large.cell.array)
    phases = np.exp(1j * (large.positions - large.positions[0]) @ wave)
    matrix = np.einsum("anb,n->ab", constants, phases) / large.get_masses()[0]
    by_hand = np.sqrt(np.linalg.eigvalsh(matrix)) * np.sqrt(units._e / units._amu) * 1e10 / (2.0 * np.pi) / 1e12
    primitive = np.asarray(theirs.primitive.cell)
    theirs.run_qpoints([primitive @ wave / (2.0 * np.pi)])
    np.testing.assert_allclose(np.sort(theirs.qpoints.frequencies[0]), by_hand, atol=2e-3)
    assert by_hand.min() > 1.0


def test_any_engine_will_do(tmp_path: Path) -> None:
    """The model itself, differentiated, against its table in LAMMPS."""
    model = EamSettings(embedding="smooth").build(["Mo"])
    potential = TorchPotential(PotentialSpec("eam", ("Mo",), model.cutoff_ang), model)
    table = LammpsEngine(write_native(potential, tmp_path / "Mo.eam.alloy"))
    crystal = ValidatedCrystal(lattice="bcc", formula="Mo").crystal()
    measured = []
    for engine in (PotentialEngine(potential), table):
        found = {
            **elastic_constants(engine, crystal, ElasticConstantsSettings()).values(),
            **vacancy_formation(engine, crystal, VacancySettings(min_length_ang=SMALL)).values(),
            **surface_energies(engine, crystal, SurfacesSettings(miller=((1, 1, 0),), min_thickness_ang=12.0)).values(),
        }
        measured.append(found)
    table.close()
    assert measured[0] == pytest.approx(measured[1], rel=1e-4)


def test_an_unstable_crystal_is_told(copper: LammpsEngine) -> None:
    constants = elastic_constants(copper, BCC_CU, ElasticConstantsSettings())
    assert not constants.is_stable
    assert constants.constants_gpa["c11_gpa"] < constants.constants_gpa["c12_gpa"]
    found = phonons(copper, BCC_CU, PhononsSettings(min_length_ang=11.0, mesh=8, points_per_segment=21))
    assert not found.is_stable
    assert found.min_frequency_thz < -0.5


def test_defects_of_compounds_are_refused(tungsten: LammpsEngine) -> None:
    compound = Crystal("CuW", Atoms("CuW", [[0, 0, 0], [1.5, 1.5, 1.5]], cell=[3] * 3, pbc=True), None, "full")
    for measure in (
        lambda: vacancy_formation(tungsten, compound, VacancySettings()),
        lambda: vacancy_migration(tungsten, compound, VacancyMigrationSettings()),
        lambda: surface_energies(tungsten, compound, SurfacesSettings()),
    ):
        with pytest.raises(OracleError, match="Cu, W") as caught:
            measure()
        assert caught.value.kind == FailureKind.BAD_STRUCTURE


def test_a_band_that_does_not_settle_is_no_result(copper: LammpsEngine) -> None:
    with pytest.raises(OracleError, match="max_steps") as caught:
        vacancy_migration(copper, FCC_CU, VacancyMigrationSettings(min_length_ang=SMALL, max_steps=3))
    assert caught.value.kind == FailureKind.NOT_CONVERGED


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lattice": "fcc"}, "needs 'formula'"),
        ({"lattice": "fcc", "formula": "Xx", "a_ang": 3.5}, "cannot be put on"),
        ({"file": "x.cif", "formula": "Ni"}, "not to a crystal from a file"),
    ],
)
def test_a_crystal_that_is_none(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ValidatedCrystal.model_validate(settings)


@pytest.mark.parametrize("miller", [(2, 2, 0), (0, 0, 0), (7, 1, 0)])
def test_miller_indices_without_sense(miller: tuple[int, int, int]) -> None:
    with pytest.raises(ValidationError, match="Miller"):
        SurfacesSettings(miller=(miller,))
