"""How the report looks: one palette, one style sheet, one layout for all plots."""

from __future__ import annotations

import plotly.graph_objects as go

INK = "#1b2733"
MUTED = "#66778a"
RULE = "#e3e8ee"
ACCENT = "#0b6e99"
SERIES = ("#0b6e99", "#d9822b", "#3a8f5c", "#8a5fb0", "#c0435a", "#6b7f14", "#3f5aa8", "#a06a42")
"""Colours of groups, the campaign's first; told apart also by people who see red and green alike."""
SCALE = "Viridis"
DIVERGING = "RdBu"
PHASE_SYMBOLS = {"fcc": "circle", "bcc": "diamond"}
OUTCOME_COLOURS = {
    "label": "#7fb3cc",
    "timed_out": "#c0435a",
    "crashed": "#7b1f33",
    "not_converged": "#d9822b",
    "left_phase": "#e0b13c",
    "fell_back": "#b8c24a",
    "other_path": "#9c8f3a",
    "no_saddle": "#6f9c3a",
    "bad_structure": "#8a5fb0",
    "corrupt_output": "#5a4636",
    "unavailable": "#66778a",
}
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"

STYLE_SHEET = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f5f7f9; color: {INK}; font: 16px/1.55 {FONT}; }}
header, main, footer {{ max-width: 1120px; margin: 0 auto; padding: 0 28px; }}
header {{ padding-top: 48px; }}
.kicker {{ margin: 0; color: {ACCENT}; font-size: 13px; font-weight: 600; letter-spacing: .09em;
  text-transform: uppercase; }}
h1 {{ margin: 4px 0 10px; font-size: 34px; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }}
h2 {{ margin: 0 0 10px; font-size: 21px; letter-spacing: -.005em; }}
h3 {{ margin: 22px 0 6px; font-size: 16px; }}
p {{ margin: 0 0 12px; max-width: 78ch; }}
.lead {{ font-size: 18px; color: #3c4b5a; }}
nav {{ display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 18px 0 6px; font-size: 14px; }}
a {{ color: {ACCENT}; text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
section {{ margin: 22px 0; padding: 26px 28px; background: #fff; border: 1px solid {RULE}; border-radius: 12px; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 20px 28px; }}
.figures div {{ border-left: 3px solid {RULE}; padding-left: 14px; }}
.figures div.first {{ border-color: {ACCENT}; }}
.figures strong {{ display: block; font-size: 26px; line-height: 1.2; font-weight: 650;
  font-variant-numeric: tabular-nums; white-space: nowrap; }}
.figures span {{ color: {MUTED}; font-size: 14px; }}
.figures small {{ display: block; color: {MUTED}; font-size: 13px; }}
.columns {{ display: grid; grid-template-columns: 1fr 1fr; gap: 18px; }}
figure.plot {{ margin: 6px 0 0; min-width: 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; font-weight: 600; color: {MUTED}; border-bottom: 1px solid #cfd8e1; }}
th, td {{ padding: 7px 22px 7px 0; white-space: nowrap; }}
tbody tr + tr td {{ border-top: 1px solid {RULE}; }}
.number {{ text-align: right; }}
.files a {{ margin-right: 10px; }}
.note {{ color: {MUTED}; font-size: 14px; }}
sub {{ line-height: 0; font-size: 75%; }}
pre {{ margin: 0; overflow: auto; max-height: 520px; padding: 16px; background: #f5f7f9; border-radius: 8px;
  font: 13px/1.5 ui-monospace, 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; }}
summary {{ cursor: pointer; font-weight: 600; margin: 10px 0; }}
footer {{ padding-bottom: 48px; color: {MUTED}; font-size: 13px; }}
@media (max-width: 640px) {{ header, main, footer {{ padding-left: 14px; padding-right: 14px; }}
  section {{ padding: 18px 14px; }} h1 {{ font-size: 27px; }} }}
@media (max-width: 860px) {{ .columns {{ grid-template-columns: 1fr; }} }}
@media print {{ body {{ background: #fff; }} section {{ break-inside: avoid; border: 0; padding: 0; }} }}
"""


def apply_style(figure: go.Figure, height: int) -> None:
    """Give ``figure`` the page's fonts, lines and margins; what it set itself stays."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        colorway=list(SERIES),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 64, "r": 24, "t": 34, "b": 54},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#b8c4cf", "activecolor": ACCENT},
        hoverlabel={"font": {"family": FONT, "size": 13}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0.0, "title": {"text": ""}},
    )
    axis = {"gridcolor": RULE, "zeroline": False, "linecolor": "#b8c4cf", "showline": True, "ticks": "outside"}
    figure.update_xaxes(tickcolor="#b8c4cf", **axis)
    figure.update_yaxes(tickcolor="#b8c4cf", **axis)


def translucent(colour: str, opacity: float) -> str:
    """A ``#rrggbb`` colour with an opacity, as CSS."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
