"""Published parameters on the published data: the errors that the paper's Tables 1 and 3 give."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.eam.yardstick import RelativeErrors, relative_errors
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase.build import bulk

PHASES = {"Ni": ("fcc", 3.52), "Mo": ("bcc", 3.16)}


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> dict[str, list[Frame]]:
    found = {}
    for element in PHASES:
        path = shared_data / element.lower() / f"{element}_dft.extxyz.gz"
        structures = ase.io.read(io.StringIO(gzip.decompress(path.read_bytes()).decode()), ":", format="extxyz")
        found[element] = [
            Frame(atoms, atoms.get_potential_energy(), atoms.get_forces(), group=atoms.info["group"])
            for atoms in structures
        ]
    return found


def potential_of(element: str, settings: EamSettings) -> TorchPotential:
    return TorchPotential(PotentialSpec("eam", (element,), settings.cutoff_ang), settings.build([element]))


def errors(element: str, settings: EamSettings, frames: list[Frame]) -> RelativeErrors:
    potential = potential_of(element, settings)
    phase, a = PHASES[element]
    crystals = [bulk(element, phase, a=x) for x in np.linspace(0.98 * a, 1.02 * a, 81)]
    equilibrium = min(result.energy_ev for result in potential.evaluate(crystals))
    reference = min(frame.energy_ev / len(frame.atoms) for frame in frames)
    return relative_errors(potential, frames, equilibrium_ev=equilibrium, reference_equilibrium_ev=reference)


@pytest.mark.parametrize(
    ("element", "settings", "energy_mev", "force"),
    [
        ("Ni", EamSettings(embedding="piecewise"), 10.6, 0.06),
        ("Ni", EamSettings(start="ml-eam-ni"), 3.9, 0.05),
        ("Mo", EamSettings(start="ml-eam-mo"), 26.7, 0.30),
        ("Mo", EamSettings(start="ml-adp-mo", angular=True), 18.7, 0.29),
    ],
    ids=["Ni ZJW04", "Ni ML-EAM", "Mo ML-EAM", "Mo ML-ADP"],
)
def test_errors_are_those_of_the_paper(
    element: str, settings: EamSettings, energy_mev: float, force: float, frames: dict[str, list[Frame]]
) -> None:
    """Over the published set less a held-out part: energies within 5 %, forces within one unit of the last digit.

    For ML-EAM of Mo the paper's text gives 26.7 meV/atom over all frames; the 23.8 of its Table 1 are of test frames.
    """
    found = errors(element, settings, frames[element])
    assert 1e3 * found.energy_ev_per_atom == pytest.approx(energy_mev, rel=0.05)
    assert found.force_ev_ang == pytest.approx(force, abs=0.011)


@pytest.mark.parametrize(("element", "expected"), [("Ni", (248.0, 147.0, 125.0)), ("Mo", (457.0, 168.0, 116.0))])
def test_elastic_constants_of_zjw04_are_those_of_the_paper(element: str, expected: tuple[float, ...]) -> None:
    """Tables 2 and 3, column EAM; GPa."""
    potential = potential_of(element, EamSettings(embedding="piecewise", taper_ang=0.0))
    phase, a = PHASES[element]
    lattice = np.linspace(0.99 * a, 1.01 * a, 401)
    energies = [r.energy_ev for r in potential.evaluate([bulk(element, phase, a=x) for x in lattice])]
    crystal = bulk(element, phase, a=lattice[int(np.argmin(energies))])

    def stress(i: int, j: int, size: float) -> np.ndarray:
        strain = np.zeros((3, 3))
        strain[i, j] += size / 2
        strain[j, i] += size / 2
        atoms = crystal.copy()
        atoms.set_cell(crystal.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return potential.evaluate([atoms])[0].stress * 160.21766

    h = 1e-3
    c11, c12 = ((stress(0, 0, h) - stress(0, 0, -h))[k, k] / (2 * h) for k in (0, 1))
    c44 = (stress(1, 2, h) - stress(1, 2, -h))[1, 2] / (2 * h)
    assert (c11, c12, c44) == pytest.approx(expected, abs=3.0)


def test_zjw04_of_mo_misses_the_papers_errors(frames: dict[str, list[Frame]]) -> None:
    """The one row of Table 1 that is not found again: the paper has 58.9 meV/atom and 0.31 eV/Å.

    The strongly expanded frames (up to 29 Å^3/atom) decide: with them errors are larger, without them smaller. Which
    frames the paper's figures hold is not known; elastic constants of the same parameters agree with its Table 3.
    """
    settings = EamSettings(embedding="piecewise", taper_ang=0.0)
    whole = errors("Mo", settings, frames["Mo"])
    dense = errors("Mo", settings, [frame for frame in frames["Mo"] if frame.group != "AIMD_NPT"])
    assert 1e3 * whole.energy_ev_per_atom == pytest.approx(102.4, abs=0.5)
    assert whole.force_ev_ang == pytest.approx(0.413, abs=0.005)
    assert 1e3 * dense.energy_ev_per_atom == pytest.approx(45.0, abs=0.5)
    assert dense.force_ev_ang == pytest.approx(0.298, abs=0.005)


def test_frames_without_forces_are_refused() -> None:
    frame = Frame(bulk("Ni"), -5.0)
    with pytest.raises(SurrogateError, match="none with forces"):
        relative_errors(
            potential_of("Ni", EamSettings()), [frame], equilibrium_ev=-4.45, reference_equilibrium_ev=-5.78
        )
