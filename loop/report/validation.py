"""The report of a validation: one potential's properties beside references and other potentials."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ... import __version__
from ...oracles.validation.elastic_constants import ElasticConstants
from ...oracles.validation.equation_of_state import EnergyVolumeCurve
from ...oracles.validation.liquid_dynamics import LiquidDynamics
from ...oracles.validation.melting import MeltingPoint
from ...oracles.validation.phonons import Phonons
from ...oracles.validation.record import Entry, ValidationRecord
from ...oracles.validation.settings import CrystalEntry, MeltEntry, Reference, ValidationSettings
from ...oracles.validation.surfaces import J_M2_PER_EV_ANG2, SurfaceEnergies
from ...oracles.validation.vacancy_migration import VacancyMigration
from ..texts import duration_text
from .build import write_page
from .liquid import liquid_details, liquid_label
from .page import Section, page, table
from .validation_figures import coexistence_figures, dispersion_figure, energy_volume_figure, migration_figure

_LABELS = {f"c{i}{j}_gpa": f"C{i}{j} (GPa)" for i in range(1, 7) for j in range(1, 7)} | {
    "bulk_modulus_gpa": "bulk modulus B, Hill (GPa)",
    "shear_modulus_gpa": "shear modulus G, Hill (GPa)",
    "poisson_ratio": "Poisson's ratio",
    "bulk_modulus_eos_gpa": "bulk modulus of the equation of state (GPa)",
    "bulk_modulus_derivative": "its pressure derivative B′",
    "lattice_constant_ang": "lattice constant a (Å)",
    "lattice_constant_c_ang": "lattice constant c (Å)",
    "melt_density_g_cm3": "density of the melt (g/cm³)",
    "melt_density_difference_percent": "density against the reference potential's (%)",
    "self_diffusion_difference_percent": "self-diffusion against the reference potential's (%)",
    "rdf_difference_percent": "g(r) against the reference potential's, largest integrated difference (%)",
    "vacf_difference_percent": "velocity autocorrelation, likewise (%)",
    "vdos_difference_percent": "its spectrum, likewise (%)",
    "rdf_max_deviation_errors": "g(r), largest deviation in standard errors",
    "vacf_max_deviation_errors": "velocity autocorrelation, likewise",
    "vdos_max_deviation_errors": "its spectrum, likewise",
    "min_phonon_frequency_thz": "smallest phonon frequency (THz)",
    "max_phonon_frequency_thz": "largest phonon frequency (THz)",
}

_PATTERNS = (
    (r"phonon_(\w+)_max_thz", "largest phonon frequency at {0} (THz)"),
    (r"energy_of_(\w+)_ev_per_atom", "energy of {1} above this crystal (eV/atom)"),
    (r"surface_energy_(\w+)_j_m2", "surface energy ({1}) (J/m²)"),
)
"""Name -> label; ``{0}`` is what the parentheses match in capitals, ``{1}`` as it is."""


@dataclass(frozen=True)
class ComparisonRow:
    """One value beside its references, as text.

    Attributes:
        label: what it is, with its unit.
        value: of the potential; a dash when it was not measured.
        references: of each source, in the crystal's order.
        difference: to the first source that has it.
        others: of other potentials.
    """

    label: str
    value: str
    references: tuple[str, ...]
    difference: str
    others: tuple[str, ...] = ()


def comparison_rows(
    crystal: CrystalEntry | MeltEntry, entries: Sequence[Entry], others: Sequence[ValidationRecord] = ()
) -> list[ComparisonRow]:
    """Every value that was measured of a crystal, and every one that has a reference."""
    values = _values(crystal, entries)
    beside = [_values(crystal, tuple(other.entries.values())) for other in others]
    names = dict.fromkeys([*values, *(name for source in crystal.reference.values() for name in source)])
    rows = []
    for name in names:
        given = [source.get(name) for source in crystal.reference.values()]
        nearest = next((reference for reference in given if reference is not None), None)
        rows.append(
            ComparisonRow(
                label=value_label(name),
                value=_number(values[name]) if name in values else "–",
                references=tuple(_reference(reference) for reference in given),
                difference=_difference(values.get(name), nearest),
                others=tuple(_number(found[name]) if name in found else "–" for found in beside),
            )
        )
    return rows


def value_label(name: str) -> str:
    """A value's name for people, with its unit."""
    if name in _LABELS:
        return _LABELS[name]
    for pattern, label in _PATTERNS:
        if match := re.fullmatch(pattern, name):
            return label.format(match.group(1).upper(), match.group(1))
    return liquid_label(name)


def write_validation_report(
    settings: ValidationSettings,
    record: ValidationRecord,
    keys: Sequence[str],
    path: Path,
    others: Sequence[ValidationRecord] = (),
) -> None:
    """Write the report of a validation.

    Args:
        record: results.
        keys: of the entries that belong to these settings.
        others: results of other potentials, to show beside.

    Raises:
        OSError: ``path`` cannot be written.
    """
    entries = record.selected(keys)
    sections = [_section(entry, entries, record, others) for entry in settings.entries]
    failures = _failures(entries)
    if failures is not None:
        sections.append(failures)
    sections.append(_how(settings, record, entries))
    elements = "–".join(record.potential.elements)
    lead = f"The potential <b>{html.escape(record.potential.label)}</b> ({html.escape(elements)}). {_verdict(entries)}"
    footer = f"Alloysmith {html.escape(__version__)} · fingerprint {html.escape(record.potential.fingerprint)}"
    document = page(settings.name, lead, sections, footer, kicker="Alloysmith validation report")
    write_page(document, path)


def _values(crystal: CrystalEntry | MeltEntry, entries: Sequence[Entry]) -> dict[str, float]:
    return {name: value for entry in entries if entry.crystal == crystal.title for name, value in entry.values.items()}


def _section(
    crystal: CrystalEntry | MeltEntry,
    entries: Sequence[Entry],
    record: ValidationRecord,
    others: Sequence[ValidationRecord],
) -> Section:
    own = [entry for entry in entries if entry.crystal == crystal.title]
    sources = list(crystal.reference)
    header = [
        "",
        html.escape(record.potential.label),
        *(html.escape(other.potential.label) for other in others),
        *(html.escape(source) for source in sources),
        *(["difference"] if sources else []),
    ]
    rows = [
        [
            html.escape(row.label),
            f"<b>{row.value}</b>",
            *row.others,
            *row.references,
            *([html.escape(row.difference)] if sources else []),
        ]
        for row in comparison_rows(crystal, own, others)
    ]
    body = table(header, rows, numeric=range(1, len(header)))
    if sources:
        body += (
            f'<p class="note">Differences are to the first of {html.escape(", ".join(sources))} that has a value, or '
            "to the nearer end of a range.</p>"
        )
    return Section(crystal.title, body + "".join(_details(entry, record, others) for entry in own))


def _details(entry: Entry, record: ValidationRecord, others: Sequence[ValidationRecord]) -> str:
    """Curves and tables of one property."""
    result = entry.read_result()
    beside = [(other.potential.label, found) for other in others if (found := _same(entry, other)) is not None]
    name = f"{entry.property}-{entry.key}"
    if isinstance(result, EnergyVolumeCurve):
        curves = [(label, found) for label, found in beside if isinstance(found, EnergyVolumeCurve)]
        note = f"The fit leaves {1000.0 * result.fit_error_ev_per_atom:.2g} meV per atom."
        return _titled("Energy and volume", energy_volume_figure(result, curves, name), note)
    if isinstance(result, ElasticConstants):
        return _titled("Elastic tensor (GPa)", _tensor(result), _stability(result))
    if isinstance(result, VacancyMigration):
        note = f"{result.n_atoms} atoms, a hop of {result.hop_ang:.3f} Å, {result.n_steps} steps of the band."
        return _titled("Vacancy migration", migration_figure(result, name), note)
    if isinstance(result, SurfaceEnergies):
        return _titled("Surfaces", _surfaces(result), "")
    if isinstance(result, Phonons):
        stable = "No frequency is imaginary: the crystal is dynamically stable."
        unstable = (
            f"Imaginary frequencies down to {result.min_frequency_thz:.2f} THz: the crystal is dynamically unstable."
        )
        return _titled("Phonons", dispersion_figure(result, name), stable if result.is_stable else unstable)
    if isinstance(result, MeltingPoint):
        how = "from the interface's speed" if result.is_from_velocities else "the middle of the bracket"
        note = (
            f"The crystal grows at {result.solidified_at_k:g} K and melts at {result.melted_at_k:g} K: "
            f"{result.temperature_k:.0f} ± {result.uncertainty_k:.0f} K ({how}). Speeds are positive where it grows."
        )
        return _titled("Coexistence of crystal and melt", coexistence_figures(result, name), note)
    if isinstance(result, LiquidDynamics):
        return liquid_details(result, record.potential.label, name)
    return ""


def _same(entry: Entry, other: ValidationRecord) -> object | None:
    """The same property of the same crystal in another record."""
    for candidate in other.entries.values():
        if (candidate.crystal, candidate.property) == (entry.crystal, entry.property) and candidate.result is not None:
            return candidate.read_result()
    return None


def _titled(title: str, body: str, note: str) -> str:
    remark = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<h3>{html.escape(title)}</h3>{body}{remark}"


def _tensor(result: ElasticConstants) -> str:
    axes = ("xx", "yy", "zz", "yz", "xz", "xy")
    rows = [[axes[i], *(f"{round(value, 1) + 0.0:.1f}" for value in row)] for i, row in enumerate(result.tensor_gpa)]
    return table(["", *axes], rows, numeric=range(1, 7))


def _stability(result: ElasticConstants) -> str:
    word = "stable" if result.is_stable else "unstable"
    return f"Mechanically {word}: the smallest eigenvalue is {result.min_eigenvalue_gpa:.1f} GPa."


def _surfaces(result: SurfaceEnergies) -> str:
    rows = [
        [
            f"({' '.join(map(str, found.miller))})",
            f"{found.energy_j_m2:.3f}",
            f"{found.energy_mev_ang2:.1f}",
            f"{found.unrelaxed_energy_j_m2 / J_M2_PER_EV_ANG2 * 1000.0:.1f}",
            str(found.n_atoms),
            f"{found.thickness_ang:.1f}",
        ]
        for found in sorted(result.surfaces, key=lambda found: found.energy_j_m2)
    ]
    header = ["surface", "J/m²", "meV/Å²", "before relaxation, meV/Å²", "atoms", "thickness (Å)"]
    return table(header, rows, numeric=range(1, len(header)))


def _failures(entries: Sequence[Entry]) -> Section | None:
    rows = [
        [html.escape(e.crystal), e.property, html.escape(e.failure.kind), html.escape(e.failure.message)]
        for e in entries
        if e.failure is not None
    ]
    return Section("Failures", table(["crystal", "property", "kind", "why"], rows)) if rows else None


def _how(settings: ValidationSettings, record: ValidationRecord, entries: Sequence[Entry]) -> Section:
    rows = [[html.escape(e.crystal), e.property, str(e.n_calls), duration_text(e.wall_s)] for e in entries]
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
    body = table(["crystal", "property", "force calls", "time"], rows, numeric=(2, 3))
    return Section(
        "How it was measured",
        f"{body}<details><summary>Configuration</summary><pre>{html.escape(text)}</pre></details>",
    )


def _verdict(entries: Sequence[Entry]) -> str:
    """One sentence on stability and failures."""
    unstable = []
    for entry in entries:
        result = entry.read_result()
        if isinstance(result, ElasticConstants | Phonons) and not result.is_stable:
            how = "mechanically" if isinstance(result, ElasticConstants) else "dynamically"
            unstable.append(f"{html.escape(entry.crystal)} is {how} unstable")
    n_failed = sum(entry.failure is not None for entry in entries)
    parts = unstable or (["Nothing that was measured is unstable"] if entries else ["Nothing is measured yet"])
    if n_failed:
        parts.append(f"{n_failed} of {len(entries)} properties failed")
    return "; ".join(parts) + "."


def _number(value: float) -> str:
    size = abs(value)
    digits = 0 if size >= 1000.0 else 1 if size >= 100.0 else 2 if size >= 10.0 else 3 if size >= 0.1 else 4
    if 0.0 < size <= 5e-5:
        return f"{value:.1e}"
    return f"{value:.{digits}f}" if size > 0.0 else "0"


def _reference(reference: Reference | None) -> str:
    if reference is None:
        return ""
    return f"{reference[0]:g} – {reference[1]:g}" if isinstance(reference, tuple) else f"{reference:g}"


def _difference(value: float | None, reference: Reference | None) -> str:
    if value is None or reference is None:
        return ""
    if isinstance(reference, tuple):
        if reference[0] <= value <= reference[1]:
            return "within"
        reference = min(reference, key=lambda end: abs(value - end))
    if reference == 0.0:
        return f"{value:+.3g}"
    return f"{100.0 * (value - reference) / abs(reference):+.1f} %"
