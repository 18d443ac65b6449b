"""The report: everything is in it, for any system, and nothing in it needs the network."""

from __future__ import annotations

import base64
import dataclasses
import html
import re
from html.parser import HTMLParser
from io import BytesIO, StringIO
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig
from alloysmith.loop.report.build import build_report, write_report
from alloysmith.loop.report.forecasts import forecasts_of
from alloysmith.loop.report.operation import utilization
from alloysmith.loop.report.page import Section
from alloysmith.loop.report.record import CampaignRecord, Forecast, WorkSpan, read_record
from alloysmith.tests.report.campaigns import make_campaign

TITLES = (
    "Overview",
    "Progress",
    "Composition",
    "Surrogate",
    "Best structures",
    "Short-range order",
    "Failures",
    "Workers",
    "Configuration",
)


class Page(HTMLParser):
    """Headings, links and loaded things of a page."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.loaded: list[str] = []
        self.downloads: dict[str, str] = {}
        self.text: list[str] = []
        self._tag = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        found = dict(attributes)
        target = found.get("src") or found.get("href") or found.get("srcset") or found.get("data")
        if target is not None:
            self.loaded.append(target)
            if "download" in found:
                self.downloads[str(found["download"])] = target

    def handle_data(self, data: str) -> None:
        if self._tag in ("h1", "h2"):
            self.headings.append(data)
        if self._tag not in ("script", "style"):
            self.text.append(data)


def _forecasts(record: CampaignRecord) -> list[Forecast]:
    rng = np.random.default_rng(0)
    return [Forecast(e.request_id, record.value(e) + float(rng.normal()), 1.0) for e in record.labelled[5:]]


def test_every_section_is_there_and_nothing_is_loaded() -> None:
    record = make_campaign()
    document = build_report(record, [make_campaign(seed=1, name="rival")], _forecasts(record))
    page = Page(document)
    assert [h for h in page.headings if h in TITLES] == list(TITLES)
    assert all(target.startswith(("#", "data:")) for target in page.loaded)
    assert not re.search(r"@import|url\((?!['\"]?(data:|#))", document.split("<script>")[0])
    assert document.count("Plotly.newPlot(") >= 8


def test_the_page_is_the_same_every_time() -> None:
    record = make_campaign(n=12)
    assert build_report(record) == build_report(record)


@pytest.mark.parametrize("elements", [("Cu",), ("Ni", "Fe"), ("Nb", "Mo", "Ta", "W"), ("Al", "Ni", "Co", "Cr", "Fe")])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_any_number_of_elements(elements: tuple[str, ...], direction: str) -> None:
    record = make_campaign(elements=elements, direction=direction, n=16)
    headings = Page(build_report(record, (), _forecasts(record))).headings
    assert ("Composition" in headings) == (len(elements) > 1)
    assert "Best structures" in headings


def test_a_campaign_that_has_only_begun() -> None:
    headings = Page(build_report(make_campaign(n=0))).headings
    assert "Overview" in headings
    assert "Best structures" not in headings


def test_baselines_of_one_name_are_one_group() -> None:
    rivals = [make_campaign(seed=s, name="rival", n=30 + s) for s in range(1, 4)]
    text = " ".join(Page(build_report(make_campaign(n=40), rivals)).text)
    assert "rival (3 runs)" in text
    assert "after 31" in text


def test_methods_that_share_a_name_are_told_apart() -> None:
    campaign, baseline = make_campaign(seed=0), make_campaign(seed=1)
    searched = {"agent": {"kind": "bayesian"}, "generators": {"search": {"kind": "surrogate_search"}}}
    random = {"agent": {"kind": "direct", "generator": "search"}, "generators": {"search": {"kind": "random"}}}
    rivals = [dataclasses.replace(baseline, config=random)]
    page = " ".join(Page(build_report(dataclasses.replace(campaign, config=searched), rivals)).text)
    assert f"{campaign.name}: bayesian (1 run)" in page
    assert f"{campaign.name}: random (1 run)" in page


def test_generators_are_compared_where_there_are_several() -> None:
    record = make_campaign(n=60)
    assert "Generators" not in Page(build_report(record)).headings
    names = ("all/<a>", "all/b", "elsewhere")
    shared = []
    for number, e in enumerate(record.evaluations):
        lineage = dataclasses.replace(e.candidate.lineage, generator=names[0 if number < 30 else 1 + number % 2])
        shared.append(dataclasses.replace(e, candidate=dataclasses.replace(e.candidate, lineage=lineage)))
    document = build_report(dataclasses.replace(record, evaluations=shared))
    assert "Generators" in Page(document).headings
    rows = {
        cells[0]: cells[1:]
        for row in re.findall("<tr>(.*?)</tr>", document)
        if (cells := re.findall("<td[^>]*>(.*?)</td>", row)) and cells[0] in [html.escape(name) for name in names]
    }
    best = record.best_so_far()
    is_new_best = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
    for name, mine in zip(names, (range(30), range(30, 60, 2), range(31, 60, 2)), strict=True):
        values = record.values()[list(mine)]
        n_failed = int(np.isnan(values).sum())
        n_late = sum(number >= 45 for number in mine)
        expected = [str(len(mine)), f"{len(mine) / 60:.0%}", f"{n_late / 15:.0%}", str(n_failed)]
        expected.append(str(len(set(mine) & set(is_new_best.tolist()))))
        found = rows[html.escape(name)]
        assert found[:5] == expected
        assert found[6] == f"{np.nanmax(values):.2f}"


def test_downloads_are_structures() -> None:
    record = make_campaign()
    page = Page(build_report(record))
    best = record.best(1)[0]
    formats = {"cif": "cif", "POSCAR": "vasp", "extxyz": "extxyz"}
    for suffix, name_of_format in formats.items():
        target = page.downloads[f"01-{best.request_id}.{suffix}"]
        content = base64.b64decode(target.partition("base64,")[2])
        stream = BytesIO(content) if suffix == "cif" else StringIO(content.decode())
        atoms = ase.io.read(stream, format=name_of_format)
        assert atoms.get_chemical_formula() == best.candidate.atoms.get_chemical_formula()
        if suffix == "extxyz":
            assert atoms.info["bulk_modulus_gpa"] == pytest.approx(record.value(best))
    together = base64.b64decode(page.downloads["best.extxyz"].partition("base64,")[2]).decode()
    assert len(ase.io.read(StringIO(together), ":", format="extxyz")) == 20


def test_texts_cannot_become_markup() -> None:
    record = make_campaign(name="<script>alert(1)</script> & co")
    document = build_report(record)
    assert "<script>alert(1)" not in document
    assert "<collapsed>" not in document.replace("\\u003c", "<").split("<main>")[1].split("Plotly.newPlot")[0]
    assert Page(document).headings[0] == "<script>alert(1)</script> & co"


def test_best_so_far_follows_the_direction() -> None:
    up, down = make_campaign(), make_campaign(direction="minimize")
    for record, best in ((up, np.nanmax), (down, np.nanmin)):
        curve = record.best_so_far()
        known = np.isfinite(curve)
        assert curve[-1] == best(record.values())
        assert (np.diff(curve[known]) * (1 if record is up else -1) >= 0.0).all()


def _spans(n: int, seconds: float, gap_s: float, start: float) -> list[WorkSpan]:
    return [
        WorkSpan("w", str(i), start + i * (seconds + gap_s), start + i * (seconds + gap_s) + seconds, "label")
        for i in range(n)
    ]


def test_pauses_between_sessions_are_left_out() -> None:
    record = make_campaign(n=4)
    night_s = 40_000.0
    spans = [*_spans(20, 9.0, 1.0, 0.0), *_spans(20, 9.0, 1.0, 200.0 + night_s)]
    section = utilization(CampaignRecord(**{**vars(record), "spans": spans}))
    assert isinstance(section, Section)
    assert "1 pause between sessions left out" in section.body
    assert "90." in section.body


def test_many_attempts_are_drawn_as_shares() -> None:
    record = make_campaign(n=4)
    section = utilization(CampaignRecord(**{**vars(record), "spans": _spans(5000, 3.0, 1.0, 0.0)}))
    assert section is not None
    assert '"type":"heatmap"' in section.body
    assert "75.0 %" in section.body


@pytest.fixture(scope="module")
def bayesian_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with a surrogate."""
    config = CampaignConfig.model_validate(
        {
            "name": "toy",
            "system": {"elements": ["Ni", "Fe", "Cr"], "cell": {"repeat": [2, 2, 2]}},
            "oracle": {"kind": "pair_model"},
            "objective": {"property": "bulk_modulus_gpa"},
            "generators": {"search": {"kind": "random"}},
            "surrogate": {"kind": "polynomial", "degree": 1},
            "agent": {
                "kind": "bayesian",
                "generators": ["search"],
                "n_initial": 12,
                "batch_size": 4,
                "n_pool": 12,
                "selection": {"kind": "greedy"},
            },
            "budget": {"n_evaluations": 28},
            "execution": {"executor": "in_process"},
        }
    )
    run_dir = tmp_path_factory.mktemp("report") / "run"
    Campaign.create(config, run_dir).run()
    return run_dir


def test_forecasts_were_made_before_the_labels(bayesian_run: Path) -> None:
    record = read_record(bayesian_run)
    forecasts = forecasts_of(record)
    assert [f.request_id for f in forecasts] == [e.request_id for e in record.labelled[12:]]
    assert len(set(record.model_of.values())) > 1
    assert all(f.std > 0.0 for f in forecasts)


def test_a_report_from_a_run_directory(bayesian_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(bayesian_run, path)
    page = Page(path.read_text())
    assert [h for h in page.headings if h in TITLES] == list(TITLES)
    assert "16 forecasts" in " ".join(page.text)
    assert not list(path.parent.glob(".*"))
