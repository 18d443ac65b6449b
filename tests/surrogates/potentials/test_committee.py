"""Committees evaluate to the mean of their members and say how far these are apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import Potential, PotentialSpec
from alloysmith.surrogates.potentials.committee import Committee
from alloysmith.surrogates.potentials.settings import load_potential, save_potential
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase import Atoms
from ase.build import bulk


def _member(beta: float, element: str = "Ni") -> TorchPotential:
    model = EamSettings(overrides={element: {"beta": beta}}).build((element,))
    return TorchPotential(PotentialSpec("eam", (element,), model.cutoff_ang), model)


@pytest.fixture
def structures() -> list[Atoms]:
    crystal = bulk("Ni", cubic=True).repeat(2)
    shaken = crystal.copy()
    shaken.rattle(0.1, seed=1)
    return [crystal, shaken]


def test_mean_and_disagreement_are_those_of_the_members(structures: list[Atoms]) -> None:
    members = (_member(4.4), _member(4.5), _member(4.7))
    committee = Committee(members)
    assert isinstance(committee, Potential)
    means, apart = committee.evaluate_with_disagreement(structures)
    answers = [member.evaluate(structures) for member in members]
    for k, atoms in enumerate(structures):
        energies = np.array([answer[k].energy_ev for answer in answers])
        forces = np.stack([answer[k].forces for answer in answers])
        assert means[k].energy_ev == pytest.approx(energies.mean())
        np.testing.assert_allclose(means[k].forces, forces.mean(axis=0))
        assert apart.energy_ev_per_atom[k] == pytest.approx(energies.std() / len(atoms))
        spread = max(np.sqrt(np.mean(np.sum((forces[:, i] - forces[:, i].mean(0)) ** 2, 1))) for i in range(len(atoms)))
        assert apart.force_ev_ang[k] == pytest.approx(spread, abs=1e-12)
    assert apart.force_ev_ang[0] < 1e-10 < 0.01 < apart.force_ev_ang[1]


def test_a_committee_reads_back_identically(structures: list[Atoms], tmp_path: Path) -> None:
    committee = Committee((_member(4.4), _member(4.7)))
    save_potential(committee, tmp_path / "committee.safetensors")
    again = load_potential(tmp_path / "committee.safetensors")
    for a, b in zip(committee.evaluate(structures), again.evaluate(structures), strict=True):
        assert a.energy_ev == b.energy_ev
        np.testing.assert_array_equal(a.forces, b.forces)


def test_one_member_or_members_of_other_elements_are_refused() -> None:
    with pytest.raises(SurrogateError, match="at least two"):
        Committee((_member(4.4),))
    with pytest.raises(SurrogateError, match="same elements"):
        Committee((_member(4.4), _member(4.4, "Cu")))
