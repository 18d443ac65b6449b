"""The log, the lock and the model files: what a crash, a full disk or a second driver may do to them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from alloysmith.generators.base import Candidate, Failure, Lineage
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig
from alloysmith.loop.encoding import decode_atoms, decode_value, encode_atoms, encode_value
from alloysmith.loop.errors import RunDirectoryError
from alloysmith.loop.events import (
    Evaluated,
    Event,
    EventFormatError,
    Failed,
    GeneratorTrained,
    GeneratorTraining,
    GeneratorTrainingFailed,
    Requested,
    RequestRecord,
    Resumed,
    Retrained,
    Started,
    Stopped,
    decode_event,
    encode_event,
)
from alloysmith.loop.state import CampaignState, replay
from alloysmith.loop.store.blobs import BlobStore
from alloysmith.loop.store.event_log import LOG_NAME, EventLog, LogPosition, read_events, read_log
from alloysmith.loop.store.lock import LOCK_NAME, RunLock, lock_holder
from alloysmith.oracles.base import FailureKind, Label
from ase import Atoms
from ase.build import bulk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STORED_LOGS = Path(__file__).parent.parent / "data" / "logs"


def _rattled() -> Atoms:
    atoms = bulk("Ni", cubic=True) * (2, 1, 1)
    atoms.symbols[3] = "Fe"
    atoms.rattle(0.1, seed=4)
    atoms.set_cell(atoms.cell.array * np.pi, scale_atoms=True)
    atoms.set_initial_magnetic_moments(np.linspace(0.1, 0.9, len(atoms)))
    atoms.pbc = (True, False, True)
    atoms.info = {"phase": "fcc", "note": [1, 2.5, None], "tensor": np.eye(3) / 3.0}
    return atoms


def _events() -> list[Event]:
    atoms = _rattled()
    candidate = Candidate(atoms, "fcc", Lineage("search", "swap", ("0000000",), {"chain": 3, "step": np.int64(2)}))
    label = Label(
        {"bulk_modulus_gpa": 0.1 + 0.2, "elastic_tensor_gpa": np.arange(36.0).reshape(6, 6) / 7.0},
        atoms,
        "fingerprint",
        0.25,
        {"n_force_calls": 17},
    )
    failure = Failure(FailureKind.LEFT_PHASE, "became hcp", {"coordination": 11.5})
    return [
        Started(0, 1.5, {"seed": 1}, "hash", {"python": "3"}),
        Resumed(1, 2.5, "host:1", {"n_workers": 2}, {"n_evaluations": 3}),
        Requested(2, 3.5, 0, (RequestRecord("0000000", candidate), RequestRecord("0000001", candidate, "0000000"))),
        Evaluated(3, 4.5, "0000000", 1, "worker-0", 3.6, 4.4, label),
        Failed(4, 5.5, "0000001", 2, "worker-1", 3.7, 5.4, failure, "quarantine"),
        Retrained(5, 6.5, 1, 1, "abc.safetensors", {"rmse": 0.125}, 0.75, "first fit"),
        Stopped(6, 7.5, "budget", "all spent", {}),
        GeneratorTraining(7, 8.5, "search", 64, 3, {"share": 0.3, "loss": 1.25}),
        GeneratorTrained(8, 9.5, "search", 64, "s-64-a.safetensors", "hash", None, {"share": 1.0}, "worker-0", 2.5),
        GeneratorTrainingFailed(9, 10.5, "search", 96, 2, "worker-0", failure, "retry"),
    ]


def test_structures_read_back_to_the_last_bit() -> None:
    atoms = _rattled()
    again = decode_atoms(encode_atoms(atoms))
    assert np.array_equal(again.positions, atoms.positions)
    assert np.array_equal(again.cell.array, atoms.cell.array)
    assert np.array_equal(again.numbers, atoms.numbers)
    assert np.array_equal(again.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments())
    assert again.pbc.tolist() == [True, False, True]
    assert np.array_equal(again.info.pop("tensor"), atoms.info.pop("tensor"))
    assert again.info == atoms.info


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_values_read_back(value: object) -> None:
    assert decode_value(encode_value(value)) == value


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(TypeError, match="got object"):
        encode_value(object())
    with pytest.raises(TypeError, match="array of numbers"):
        encode_value(np.array(["a"]))


@pytest.mark.parametrize("event", _events(), ids=lambda event: event.type)
def test_events_read_back(event: Event) -> None:
    line = encode_event(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    again = decode_event(line)
    assert (type(again), again.seq, again.at) == (type(event), event.seq, event.at)
    assert encode_event(again) == line


def test_a_label_reads_back_with_its_arrays() -> None:
    event = _events()[3]
    again = decode_event(encode_event(event))
    assert isinstance(event, Evaluated)
    assert isinstance(again, Evaluated)
    assert again.label.values["bulk_modulus_gpa"] == 0.1 + 0.2
    assert np.array_equal(again.label.values["elastic_tensor_gpa"], event.label.values["elastic_tensor_gpa"])
    assert np.array_equal(again.label.atoms.positions, event.label.atoms.positions)
    assert not hasattr(again.label, "no_such_thing")


@pytest.mark.parametrize("position", [0, 20, 200, -5])
def test_one_flipped_bit_is_noticed(position: int) -> None:
    line = bytearray(encode_event(_events()[3]))
    line[position] ^= 1
    with pytest.raises((EventFormatError, ValueError)):
        decode_event(bytes(line))


def test_a_newer_schema_is_refused_with_advice() -> None:
    body = encode_event(_events()[6]).rpartition(b',"crc":')[0].replace(b'"v":1', b'"v":999') + b"}"
    line = body[:-1] + b',"crc":%d}\n' % zlib.crc32(body)
    with pytest.raises(EventFormatError, match="schema version 999"):
        decode_event(line)


@pytest.fixture
def run_dir(make_config: Callable[..., CampaignConfig], tmp_path: Path) -> Path:
    """A finished campaign with labels, failures and retries."""
    faults = [
        {"effect": "left_phase", "fraction": 0.3},
        {"effect": "crashed", "fraction": 0.3, "once_folder": str(tmp_path / "once")},
    ]
    Campaign.create(make_config(oracle__faults=faults), tmp_path / "run").run()
    return tmp_path / "run"


def test_a_torn_last_line_is_dropped_and_cut_off(run_dir: Path) -> None:
    log = run_dir / LOG_NAME
    whole = log.read_bytes()
    n_events = whole.count(b"\n")
    log.write_bytes(whole[:-7])
    assert len(list(read_events(run_dir))) == n_events - 1
    assert log.read_bytes() == whole[:-7], "reading changes nothing"
    *_, (_, end) = read_log(run_dir, LogPosition())
    writer = EventLog.open(run_dir, end)
    writer.append([Stopped(writer.n_events, 1.0, "idle")])
    writer.close()
    events = list(read_events(run_dir))
    assert len(events) == n_events
    assert isinstance(events[-1], Stopped)
    assert events[-1].reason == "idle"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.floats(0.0, 1.0))
def test_any_cut_of_a_log_replays_to_a_valid_state(run_dir: Path, tmp_path: Path, cut: float) -> None:
    content = (run_dir / LOG_NAME).read_bytes()
    shorter = tmp_path / "cut"
    shorter.mkdir(exist_ok=True)
    first_line = content.index(b"\n") + 1
    (shorter / LOG_NAME).write_bytes(content[: first_line + round(cut * (len(content) - first_line))])
    state = replay(shorter)
    full = replay(run_dir)
    assert state.n_requested == state.n_ended + len(state.pending)
    assert state.n_ended == state.n_labels + state.n_failed.total()
    assert set(state.by_id) <= set(full.by_id)
    assert not set(state.by_id) & set(state.pending)
    if state.best is not None:
        objective = state.objective
        scores = [objective.score(e.label) for e in state.evaluations if e.label is not None]
        assert state.best.label is not None
        assert objective.score(state.best.label) == max(scores)


def test_damage_in_the_middle_names_the_line_and_the_way_out(run_dir: Path) -> None:
    log = run_dir / LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"a", b"b", 1)
    log.write_bytes(b"".join(lines))
    with pytest.raises(RunDirectoryError, match=r"line 5 of .* is damaged.*4 lines before it are intact") as caught:
        replay(run_dir)
    with pytest.raises(RunDirectoryError):
        Campaign.open(run_dir)
    advice = str(caught.value).partition("`")[2].partition("`")[0]
    subprocess.run(["sh", "-c", advice], check=True)
    resumed = Campaign.open(run_dir)
    assert resumed.run().reason == "budget"
    assert (resumed.state.n_ended, len(resumed.state.pending)) == (12, 0)


def test_a_missing_line_is_noticed(run_dir: Path) -> None:
    log = run_dir / LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4] + lines[5:]))
    with pytest.raises(RunDirectoryError, match="it has number 5 where 4 should follow"):
        replay(run_dir)


def test_a_file_too_large_stops_the_campaign_and_keeps_the_log(
    make_config: Callable[..., CampaignConfig], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    Campaign.create(make_config(), run_dir)

    def drive() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
        try:
            Campaign.open(run_dir).run()
        except RunDirectoryError as error:
            os._exit(40 if "largest size" in str(error) and "resume" in str(error) else 41)
        os._exit(42)

    driver = get_context("fork").Process(target=drive)
    driver.start()
    driver.join(60)
    assert driver.exitcode == 40
    state = replay(run_dir)
    assert state.n_requested > 0
    assert Campaign.open(run_dir).run().reason == "budget"
    assert replay(run_dir).n_ended == 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, where mounting one is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root; the limit on file sizes is tried in any case")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run([unmount, str(folder)], check=True)


def test_a_full_disk_stops_the_campaign_and_keeps_what_had_finished(
    make_config: Callable[..., CampaignConfig], small_disk: Path
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 40_000)
    run_dir = small_disk / "run"
    campaign = Campaign.create(make_config(budget__n_evaluations=40), run_dir)
    with pytest.raises(RunDirectoryError, match=r"disk .* is full: make room, then `alloysmith resume"):
        campaign.run()
    before = replay(run_dir)
    assert 0 < before.n_ended < 40
    filler.unlink()
    assert Campaign.open(run_dir).run().reason == "budget"
    after = replay(run_dir)
    assert after.n_ended == 40
    assert {e.request_id for e in before.evaluations} <= {e.request_id for e in after.evaluations}


def test_logs_of_earlier_versions_replay_for_ever() -> None:
    folders = sorted(path for path in STORED_LOGS.iterdir() if path.is_dir())
    assert folders
    for folder in folders:
        state = replay(folder)
        summary = (folder / "summary.txt").read_text().split()
        found = [state.n_requested, state.n_ended, state.n_labels, state.n_failed.total(), len(state.retrains)]
        assert [str(n) for n in found] == summary[:5], folder.name
        assert repr(state.best_value) == summary[5]
        assert all(len(e.candidate.atoms) > 0 for e in state.evaluations)


def test_the_lock_of_a_dead_driver_is_taken_over(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom pathlib import Path\nfrom alloysmith.loop.store.lock import RunLock\n"
            "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunDirectoryError, match=rf"process {holder.pid} on .* since"):
            RunLock(tmp_path)
        seen = lock_holder(tmp_path)
        assert seen is not None
        assert seen["pid"] == holder.pid
    finally:
        holder.kill()
        holder.communicate()
    assert lock_holder(tmp_path) is None
    lock = RunLock(tmp_path)
    mine = lock_holder(tmp_path)
    assert mine is not None
    assert mine["pid"] == os.getpid()
    lock.release()
    lock.release()
    assert lock_holder(tmp_path) is None


def test_the_lock_of_another_machine_is_respected(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text(f'{{"host": "elsewhere", "pid": 1, "since": {time.time()}}}')
    with pytest.raises(RunDirectoryError, match=r"elsewhere.*delete .*lock and resume"):
        RunLock(tmp_path)
    assert "elsewhere" in (tmp_path / LOCK_NAME).read_text()


def test_blobs_are_named_by_their_content(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "models")
    name = store.put(b"weights", ".bin")
    assert store.put(b"weights", ".bin") == name
    assert store.put(b"others", ".bin") != name
    assert store.path(name).read_bytes() == b"weights"
    assert len(list((tmp_path / "models").iterdir())) == 2
    store.path(name).write_bytes(b"weighty")
    with pytest.raises(RunDirectoryError, match="does not match its name"):
        store.path(name)
    with pytest.raises(RunDirectoryError, match="is missing"):
        store.path("0" * 32 + ".bin")


def test_state_is_the_same_live_and_replayed(run_dir: Path) -> None:
    live = CampaignState()
    for event in read_events(run_dir):
        live.apply(event)
    again = replay(run_dir)
    assert live.n_retried["crashed"] > 0
    assert live.n_failed["left_phase"] > 0
    for name in ("n_requested", "n_labels", "n_failed", "n_retried", "busy_s", "elapsed_s", "best_value", "n_sessions"):
        assert getattr(live, name) == getattr(again, name), name
