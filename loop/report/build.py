"""The report: from run directories to one HTML file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import yaml

from ... import __version__
from ...structures.whole_file import write_whole
from .composition import composition
from .forecasts import forecasts_of
from .generator_models import generator_models
from .generators import generators
from .operation import failures, utilization
from .order import short_range_order
from .overview import lead, overview
from .page import Section, page
from .progress import progress
from .record import CampaignRecord, Forecast, read_record
from .structures import best_structures
from .surrogate import surrogate


def write_report(run_dir: Path, path: Path, baselines: Sequence[Path] = ()) -> None:
    """Write the report of the campaign in ``run_dir``; also while it runs.

    Args:
        baselines: run directories to draw beside it.

    Raises:
        RunDirectoryError: a run directory holds no campaign, or its log is damaged.
        OSError: ``path`` cannot be written.
    """
    record = read_record(run_dir)
    others = [read_record(folder) for folder in baselines]
    write_page(build_report(record, others, forecasts_of(record)), path)


def write_page(document: str, path: Path) -> None:
    """Put a document into ``path``, whole or not at all.

    Raises:
        OSError: ``path`` cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, document.encode())


def build_report(
    record: CampaignRecord, baselines: Sequence[CampaignRecord] = (), forecasts: Sequence[Forecast] = ()
) -> str:
    """The HTML document. Sections that have nothing to show are left out."""
    drafts = [
        overview(record),
        progress(record, baselines),
        generators(record),
        generator_models(record),
        composition(record),
        surrogate(record, forecasts),
        best_structures(record),
        short_range_order(record),
        failures(record),
        utilization(record),
        _configuration(record),
    ]
    sections = [section for section in drafts if section is not None]
    footer = f"Alloysmith {html.escape(__version__)} · run directory {html.escape(str(record.folder))}"
    return page(record.name, lead(record), sections, footer)


def _configuration(record: CampaignRecord) -> Section:
    text = yaml.safe_dump(
        _plain(record.config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    software = ", ".join(f"{name} {version}" for name, version in record.software.items())
    note = f'<p class="note">{html.escape(software)}</p>' if software else ""
    return Section("Configuration", f"<pre>{html.escape(text)}</pre>{note}")


def _plain(value: object) -> object:
    """``value`` with mappings and sequences as the plain kinds that YAML writes without tags."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
