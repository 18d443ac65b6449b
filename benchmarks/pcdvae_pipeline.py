"""What `alloysmith pipeline` found beside what was published: Table 3 and the best values.

Usage: ``alloysmith pipeline nifecr_pipeline --run-dir DIR``, then ``python benchmarks/pcdvae_pipeline.py DIR``.
Published are the figures of Naghdi, Kaszuba et al., "Efficient autoencoder pipeline for discovering high entropy alloys
with molecular dynamics data" (2024), Table 3 and Sec. 4.3: 327 test structures of 54 atoms, P-CDVAE trained on random
orderings alone and with local search, optimized as published. Data and split are not the same, so the trend is what
can be compared.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from alloysmith.loop.pipeline.results import Findings, StepRow, best_line
from alloysmith.loop.report.pipeline import read_pipeline

N_PUBLISHED = 327
INITIAL = (327, 181.7, 192.0)
PUBLISHED = {  # (model, step) -> structures that count, mean and mean of the best ten in GPa
    ("random", 200): (237, 181.4, 193.1),
    ("random", 500): (225, 181.7, 193.3),
    ("random", 1000): (178, 181.1, 193.8),
    ("random", 1500): (129, 182.8, 193.8),
    ("random", 2500): (45, 185.8, 193.3),
    ("local_search", 200): (265, 181.7, 192.9),
    ("local_search", 500): (247, 182.4, 193.0),
    ("local_search", 1000): (199, 185.4, 194.4),
    ("local_search", 1500): (186, 189.8, 195.0),
    ("local_search", 2500): (124, 193.0, 196.5),
}
BEST_GPA = {"drawn": 197.26, "of the local searches": 196.58}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    findings = read_pipeline(Path(sys.argv[1]))
    header = ("trained on", "optimization", "step", "count", "published", "mean GPa", "published", "best ten")
    print(f"| {' | '.join((*header, 'published', 'best'))} |")
    print(f"|{' --- |' * (len(header) + 2)}")
    for row in findings.table_3:
        published = PUBLISHED.get((row.model, row.step)) if row.model else INITIAL
        print(line(row, published))
    print(f"\n{best_line(findings, 'GPa')}; published: {', '.join(f'{x} {name}' for name, x in BEST_GPA.items())} GPa")
    print(f"labels: {labels(findings)}")


def line(row: StepRow, published: tuple[int, float, float] | None) -> str:
    """A row of the table."""
    others = ("", "", "") if published is None else (f"{published[0]} of {N_PUBLISHED}", *map(str, published[1:]))
    mean, top, best = ("" if math.isnan(x) else f"{x:.1f}" for x in (row.mean, row.mean_top, row.best))
    cells = [row.model or "initial", row.optimization, str(row.step) if row.model else ""]
    cells += [f"{row.n_correct} of {row.n_drawn}", others[0], mean, others[1], top, others[2], best]
    return f"| {' | '.join(cells)} |"


def labels(findings: Findings) -> str:
    """What was asked of the oracle."""
    return ", ".join(f"{n:,} {stage}" for stage, n in findings.calls.items())


if __name__ == "__main__":
    main()
