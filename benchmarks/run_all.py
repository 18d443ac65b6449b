"""Run every benchmark with its default settings, one after the other.

    python benchmarks/run_all.py            # an hour or so on two cores
    python benchmarks/run_all.py --only oracle_speed search

Each prints its own table; copy the figures to benchmarks/README.md with the machine and the date.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_NO_BENCHMARKS = {Path(__file__).stem, "deepmd_peer", "snap_peer"}
_OF_FILES = {"barrier_models", "pcdvae_phase", "pcdvae_pipeline"}  # these are told which files to read
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in _NO_BENCHMARKS | _OF_FILES)


def main() -> None:
    """Run and report failures at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{date.today()}  {machine}", flush=True)
    failed = []
    for name in args.only:
        print(f"\n## {name}\n", flush=True)
        if subprocess.run([sys.executable, str(FOLDER / f"{name}.py")], check=False).returncode != 0:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
