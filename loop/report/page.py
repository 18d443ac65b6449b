"""The page: sections put together into one HTML file that needs nothing from the network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from .style import STYLE_SHEET, apply_style

_PLOT_CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
<script>$plotly</script>
</head>
<body>
<header><p class="kicker">$kicker</p><h1>$title</h1><p class="lead">$lead</p>
<nav>$links</nav></header>
<main>$sections</main>
<footer>$footer</footer>
</body>
</html>
"""
)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading, unique within the page.
        body: HTML.
    """

    title: str
    body: str

    @property
    def anchor(self) -> str:
        """What a link within the page names it by."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def page(
    title: str, lead: str, sections: Sequence[Section], footer: str, *, kicker: str = "Alloysmith campaign report"
) -> str:
    """The whole HTML document; ``title`` and ``kicker`` are plain text, everything else HTML."""
    return _PAGE.substitute(
        title=html.escape(title),
        kicker=html.escape(kicker),
        lead=lead,
        style=STYLE_SHEET,
        plotly=get_plotlyjs(),
        links="".join(f'<a href="#{s.anchor}">{html.escape(s.title)}</a>' for s in sections),
        sections="".join(
            f'<section id="{s.anchor}"><h2>{html.escape(s.title)}</h2>{s.body}</section>' for s in sections
        ),
        footer=footer,
    )


def plot(figure: go.Figure, *, name: str, height: int = 420) -> str:
    """HTML of a figure in the page's style; ``name`` is unique within the page and keeps the output reproducible."""
    apply_style(figure, height)
    body = figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"plot-{name}", config=_PLOT_CONFIG)
    return f'<figure class="plot">{body}</figure>'


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """A table whose cells are HTML; columns named in ``numeric`` are set flush right."""
    head = "".join(_cell("th", text, index in numeric) for index, text in enumerate(header))
    body = "".join(
        "<tr>" + "".join(_cell("td", text, index in numeric) for index, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(tag: str, text: str, is_number: bool) -> str:
    return f'<{tag} class="number">{text}</{tag}>' if is_number else f"<{tag}>{text}</{tag}>"
