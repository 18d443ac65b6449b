"""The repulsion of nuclei: Ziegler, Biersack and Littmark's, smooth, and nothing on what was learnt."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.core_repulsion import CoreRepulsion, core_radii
from alloysmith.surrogates.potentials.graph import build_graph
from alloysmith.surrogates.potentials.settings import core_of, potential_from_state
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Al", "Ni")


def _pair(distance_ang: float, symbols: str = "AlNi") -> Atoms:
    return Atoms(symbols, positions=[[0.0, 0.0, 0.0], [distance_ang, 0.0, 0.0]], cell=[12.0] * 3, pbc=True)


def _energy(core: CoreRepulsion, atoms: Atoms) -> float:
    found = core.evaluate(build_graph(atoms, ELEMENTS, 3.0))
    return 0.0 if found is None else found[0]


def test_close_pairs_have_the_universal_potential() -> None:
    core = CoreRepulsion({"Al-Ni": 1.5}, ELEMENTS)
    a = 0.46850 / (13**0.23 + 28**0.23)
    x = 0.5 / a
    screening = (
        0.18175 * np.exp(-3.1998 * x)
        + 0.50986 * np.exp(-0.94229 * x)
        + 0.28022 * np.exp(-0.4029 * x)
        + 0.02817 * np.exp(-0.20162 * x)
    )
    assert _energy(core, _pair(0.5)) == pytest.approx(14.399645 * 13 * 28 / 0.5 * screening, rel=1e-12)
    assert core.evaluate(build_graph(_pair(0.5, "Ni2"), ELEMENTS, 3.0)) is None  # a pair without a radius


def test_it_repels_ever_more_and_begins_smoothly() -> None:
    core = CoreRepulsion({"Al-Al": 1.6, "Al-Ni": 1.5, "Ni-Ni": 1.7}, ELEMENTS)
    assert core.evaluate(build_graph(_pair(1.5), ELEMENTS, 3.0)) is None
    distances = np.linspace(0.3, 1.499, 200)
    assert (np.diff([_energy(core, _pair(d)) for d in distances]) < 0.0).all()
    for depth, largest in ((1e-2, 1e-2), (1e-3, 1e-5)):  # third power of the depth
        assert 0.0 < _energy(core, _pair(1.5 - depth)) < largest


def test_forces_and_virial_are_derivatives() -> None:
    core = CoreRepulsion({"Al-Al": 2.2, "Al-Ni": 2.4, "Ni-Ni": 2.3}, ELEMENTS)
    atoms = bulk("Al", a=3.0, cubic=True)
    atoms.numbers[1] = 28
    atoms.rattle(0.15, seed=1)
    found = core.evaluate(build_graph(atoms, ELEMENTS, 3.0))
    assert found is not None
    _, forces, virial = found
    h = 1e-5
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[1, axis] += sign * h
            energies.append(_energy(core, moved))
        assert forces[1, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), rel=1e-6, abs=1e-6)
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[0, axis] += sign * h
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(_energy(core, strained))
        assert virial[0, axis] == pytest.approx((energies[0] - energies[1]) / (2 * h), rel=1e-6, abs=1e-6)


def test_it_sets_in_where_the_structures_end() -> None:
    radii = core_radii([_pair(1.3), _pair(1.4), _pair(1.25, "Ni2")], ELEMENTS)
    assert radii == pytest.approx({"Al-Al": 0.7 * 2.42, "Al-Ni": 1.3, "Ni-Ni": 1.25})
    with pytest.raises(SurrogateError):
        core_radii([bulk("Cu")], ELEMENTS)


def test_a_potential_with_it_is_the_same_on_its_data_and_is_read_back() -> None:
    settings = DeepPotSettings(cutoff_ang=4.0, switch_ang=3.0, seed=1, core="zbl")
    learnt = [_pair(1.4), bulk("Ni", cubic=True)]
    radii = core_of(settings, learnt, ELEMENTS)
    assert core_of(settings.model_copy(update={"core": "none"}), learnt, ELEMENTS) == {}
    model = settings.build(ELEMENTS).double()
    bare = TorchPotential(PotentialSpec("deeppot", ELEMENTS, 4.0), model)
    cored = potential_from_state(TorchPotential(PotentialSpec("deeppot", ELEMENTS, 4.0, core_ang=radii), model).state())
    for atoms, other in zip(bare.evaluate(learnt), cored.evaluate(learnt), strict=True):
        assert atoms.energy_ev == other.energy_ev
        np.testing.assert_array_equal(atoms.forces, other.forces)
    (before,), (after,) = bare.evaluate([_pair(0.9)]), cored.evaluate([_pair(0.9)])
    core = CoreRepulsion(radii, ELEMENTS).evaluate(build_graph(_pair(0.9), ELEMENTS, 4.0))
    assert core is not None
    assert after.energy_ev - before.energy_ev == pytest.approx(core[0])
    assert after.forces[1, 0] - before.forces[1, 0] > 100.0
    np.testing.assert_allclose((after.stress - before.stress) * 12.0**3, core[2], atol=1e-9)
