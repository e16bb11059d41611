"""A record gives back what was written, survives a kill, and refuses what is none."""

import math
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steadygrad.record import (
    Record,
    RecordError,
    Results,
    Run,
    codec,
    filesystem,
    read,
    schema,
)
from steadygrad.record.ownership import kind_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def rec(path: Path) -> Any:
    with Record.create(path, config={"seed": 7}) as record:
        yield record


def seen(rec: Record) -> Run:
    rec.commit()
    return read(rec.path)


# What goes in comes out -------------------------------------------------------------------------


def float16_oracle(value: float) -> float:
    """The nearest of float16's values by hand: 11 significant bits, halves to even."""
    if not math.isfinite(value) or value == 0:
        return value
    _, exponent = math.frexp(value)
    unit = 2.0 ** max(exponent - 11, -24)
    return math.copysign(min(abs(round(value / unit) * unit), 65504.0), value)


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(width=64)), st.data())
@settings(max_examples=200, deadline=None)
def test_a_row_comes_back_to_float16_and_its_four_other_things_stay_apart(
    values: np.ndarray, data: st.DataObject
) -> None:
    absent = data.draw(hnp.arrays(np.bool_, values.shape))
    back = codec.unpacked(codec.packed(np.ma.MaskedArray(values, mask=absent)))
    assert np.ma.getmaskarray(back).tolist() == absent.tolist()
    for wrote, got, gone in zip(values, np.ma.getdata(back), absent, strict=True):
        if not gone:
            np.testing.assert_equal(got, float16_oracle(wrote))


def test_every_nan_pattern_is_nan_and_not_absent() -> None:
    patterns = np.array([0x7FF0000000000001, 0x7FF8000000000000, 0x7FFFFFFFFFFFFFFF], np.uint64)
    signed = np.concatenate([patterns, patterns | np.uint64(1 << 63)])
    back = codec.unpacked(codec.packed(signed.view(np.float64)))
    assert not np.ma.getmaskarray(back).any()
    assert np.isnan(np.ma.getdata(back)).all()


def test_scalars_survive_with_nan_and_infinities(rec: Record) -> None:
    values = [0.1, math.nan, math.inf, -math.inf, 5e-324, -1e308, 0.0]
    for step, value in reversed(list(enumerate(values))):
        rec.scalars(3 * step, {"loss": value, "lr": np.float32(step)})
    run = seen(rec)
    steps, back = run.scalars("loss")
    assert run.scalar_names() == ["loss", "lr"]
    assert steps.tolist() == run.steps("loss").tolist() == [0, 3, 6, 9, 12, 15, 18]
    np.testing.assert_array_equal(back, values)


def test_the_later_value_at_a_step_replaces_the_earlier(rec: Record) -> None:
    for value in (1.0, 2.0):
        rec.scalars(5, {"loss": value})
        rec.row(5, "log10_grad", "lstm", np.array([value]))
    run = seen(rec)
    assert run.scalars("loss")[1].tolist() == [2.0]
    assert run.rows("log10_grad", "lstm")[1].tolist() == [[2.0]]


def test_rows_of_unequal_length_are_absent_at_their_end(rec: Record) -> None:
    rec.row(0, "log10_grad", "lstm", np.array([-3.0, -2.0, -1.0]), state="c")
    rec.row(
        4,
        "log10_grad",
        "lstm",
        np.ma.MaskedArray([-9.0, 0.0], mask=np.array([True, False])),
        state="c",
    )
    rec.row(4, "gate:forget", "lstm", [0.25])
    run = seen(rec)
    assert run.quantities() == [("log10_grad", "lstm", "c"), ("gate:forget", "lstm", "h")]
    steps, grid = run.rows("log10_grad", "lstm", "c")
    assert steps.tolist() == [0, 4]
    assert grid.tolist() == [[-3, -2, -1], [None, 0, None]]


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 11, 99])
def test_thinning_keeps_the_ends_and_whole_rows(rec: Record, limit: int) -> None:
    for step in range(11):
        rec.row(step, "log10_grad", "lstm", [float(-step)])
    steps, grid = seen(rec).rows("log10_grad", "lstm", limit=limit)
    assert len(steps) == min(limit, 11)
    assert steps[0] == 0 and (limit == 1 or steps[-1] == 10)
    assert (-np.ma.getdata(grid)[:, 0]).tolist() == steps.tolist()


def test_notes_events_findings_and_config(rec: Record, path: Path) -> None:
    note = {"ratio": -math.inf, "lags": (1, 2), "norm": np.float32(0.5), "by": {"a": np.arange(2)}}
    rec.note("scores", note)
    rec.event(2, "remedy", "clip <b>", max_norm=1.0, worst=math.nan)
    rec.finding(3, {"fault": "vanishing", "lag": 63, "evidence": {"log10_ratio": -math.inf}})
    run = seen(rec)
    assert run.path == path
    assert run.config == {"seed": 7}
    assert run.notes == {
        "scores": {"ratio": -math.inf, "lags": [1, 2], "norm": 0.5, "by": {"a": [0, 1]}}
    }
    (event,) = run.events()
    assert (event["step"], event["kind"], event["text"]) == (2, "remedy", "clip <b>")
    assert event["data"]["max_norm"] == 1.0 and math.isnan(event["data"]["worst"])
    (finding,) = run.findings()
    assert finding["evidence"] == {"log10_ratio": -math.inf} and finding["recorded_at"] == 3


# Resume -----------------------------------------------------------------------------------------


def test_truncating_gives_the_record_of_a_run_that_stopped_there(tmp_path: Path) -> None:
    def write(rec: Record, steps: range) -> None:
        for step in steps:
            rec.scalars(step, {"loss": step, f"only_{step}": 1.0})
            rec.row(step, "log10_grad", f"layer_{step // 4}", [float(step)])
            rec.event(step, "epoch", str(step))
            rec.finding(step, {"fault": "dead", "lag": step})
            rec.note("verdict", f"at {step}")

    def contents(path: Path) -> Any:
        with read(path) as run:
            scalars = {n: [v.tolist() for v in run.scalars(n)] for n in run.scalar_names()}
            rows = {q: [v.tolist() for v in run.rows(*q)] for q in run.quantities()}
            events = [{**e, "time": 0} for e in run.events()]
            return run.config, run.notes, scalars, rows, events, run.findings()

    with Record.create(tmp_path / "short.db", config={}) as rec:
        rec.note("data", "early")
        write(rec, range(6))
    with Record.create(tmp_path / "long.db", config={}) as rec:
        rec.note("data", "early")
        write(rec, range(9))
    with Record.open(tmp_path / "long.db") as rec:
        rec.truncate(5)
    assert contents(tmp_path / "long.db") == contents(tmp_path / "short.db")
    with Record.open(tmp_path / "long.db") as rec:
        write(rec, range(6, 9))
    with Record.open(tmp_path / "short.db") as rec:
        write(rec, range(6, 9))
    assert contents(tmp_path / "long.db") == contents(tmp_path / "short.db")


# Kills, writers, readers ------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
from steadygrad.record import Record
rec = Record.create(sys.argv[1], config={"seed": 1})
print("begun", flush=True)
step = 0
while True:
    rec.scalars(step, {"loss": step})
    rec.row(step, "log10_grad", "lstm", np.full(500, float(step % 1000)))
    rec.commit()
    print(step, flush=True)
    step += 1
"""


ON_NETWORK = """
from steadygrad.record import writer
writer.is_network = lambda path: True
"""


def start_writer(path: Path, script: str = WRITER) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_until(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    for _ in range(count):
        assert process.stdout.readline()


@pytest.mark.parametrize(
    ("commits", "network"),
    [(1, False), (40, False), (300, False), (1, True), (20, True)],  # the latter wait for the disk
)
def test_a_killed_writer_leaves_every_commit_and_no_half_step(
    path: Path, commits: int, network: bool
) -> None:
    process = start_writer(path, ON_NETWORK + WRITER if network else WRITER)
    try:
        lines_until(process, commits + 1)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        # Not communicate(): it would pass over the lines that readline has buffered.
        told = commits + len(process.stdout.read().split())
        process.communicate()
    with read(path) as run:
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
        steps, loss = run.scalars("loss")
        row_steps, grid = run.rows("log10_grad", "lstm")
        assert run.config == {"seed": 1}
    assert told <= len(steps) <= told + 1  # one commit may not have been told any more
    assert steps.tolist() == loss.tolist() == row_steps.tolist() == list(range(len(steps)))
    assert (grid == (row_steps % 1000)[:, None]).all()
    with Record.open(path) as rec:  # the lock has died with its owner
        rec.scalars(len(steps), {"loss": 0})


def test_a_commit_cut_in_half_is_undone_by_the_reader(tmp_path: Path, path: Path) -> None:
    Record.create(path, config={"seed": 1}).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA cache_size = 5")
    db.execute("BEGIN")
    for i in range(3000):  # far beyond the cache: half of it is in the file already
        db.execute("INSERT INTO meta VALUES (?, 'new')", (str(i),))
    copy = tmp_path / "copy.db"
    for tail in ("", "-journal"):
        shutil.copy(f"{path}{tail}", f"{copy}{tail}")
    db.close()
    with read(copy) as run:
        assert run.config == {"seed": 1}
        assert run._all("SELECT count(*) FROM meta WHERE value = 'new'") == [(0,)]


def test_a_kill_during_creation_leaves_nothing_that_blocks(path: Path) -> None:
    path.touch()  # what SQLite leaves: it makes the file before its first commit
    with pytest.raises(RecordError, match="empty"):
        read(path)
    Record.create(path, config={}).close()
    assert read(path).config == {}


def test_what_was_not_committed_is_forgotten_whole(path: Path) -> None:
    script = WRITER.replace("    rec.commit()\n", "    if step == 3: import os; os._exit(9)\n")
    subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True)
    run = read(path)
    assert run.scalar_names() == [] and run.quantities() == []


def test_a_second_writer_is_refused_and_the_first_goes_on(rec: Record, path: Path) -> None:
    for again in (
        lambda: Record.open(path),
        lambda: Record.create(path, config={}, overwrite=True),
    ):
        with pytest.raises(RecordError, match="one writer"):
            again()
    rec.scalars(0, {"loss": 1.0})
    assert seen(rec).scalars("loss")[1].tolist() == [1.0]


def test_a_second_process_is_refused_until_the_first_is_gone(path: Path) -> None:
    process = start_writer(path)
    try:
        lines_until(process, 1)
        for _ in range(20):
            with pytest.raises(RecordError, match="one writer"):
                Record.open(path)
    finally:
        process.kill()
        process.communicate()
    Record.open(path).close()


def test_a_writer_that_lost_its_record_is_told(rec: Record, path: Path) -> None:
    rec._db.execute("UPDATE meta SET value = 'someone else' WHERE key = 'writer'")
    with pytest.raises(RecordError, match="taken over this record"):
        rec.commit()


@pytest.mark.parametrize("network", [False, True], ids=["wal", "delete"])
def test_a_reader_sees_commits_as_they_come(
    path: Path, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steadygrad.record.writer.is_network", lambda _: network)
    with Record.create(path, config={}) as rec, read(path) as run:
        assert rec._db.execute("PRAGMA journal_mode").fetchone() == (
            "delete" if network else "wal",
        )
        for step in range(3):
            # More than the cache holds: it must not spill and shut the reader out.
            for i in range(1500):
                rec.row(step, "log10_grad", f"layer{i}", np.full(1000, 1.0))
            rec.scalars(step, {"loss": step})
            assert len(run.scalar_names()) == (step > 0)
            rec.commit()
            assert run.steps("loss").tolist() == list(range(step + 1))


def test_a_record_on_a_read_only_medium_can_be_read(rec: Record, path: Path) -> None:
    rec.scalars(0, {"loss": 1.0})
    rec.close()
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert read(path).scalars("loss")[1].tolist() == [1.0]
    finally:
        path.parent.chmod(0o755)


def test_a_closed_record_is_one_file(rec: Record, path: Path) -> None:
    rec.scalars(0, {"loss": 1.0})
    rec.close()
    rec.close()
    assert list(path.parent.iterdir()) == [path]


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", [read, Record.open])
def test_what_is_no_record_is_refused_with_one_message(tmp_path: Path, reader: Any) -> None:
    (tmp_path / "text.db").write_text("step,loss\n0,1\n" * 100)
    (tmp_path / "short.db").write_text("x")
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    Record.create(tmp_path / "new.db", config={}).close()
    with sqlite3.connect(tmp_path / "new.db") as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    for name, message in {
        "gone.db": "no such file",
        ".": "folder",
        "text.db": "not a Steadygrad record",
        "short.db": "not a Steadygrad record",
        "other.db": "not a Steadygrad record",
        "new.db": f"version {schema.VERSION + 1}",
    }.items():
        with pytest.raises(RecordError, match=message):
            reader(tmp_path / name)
    assert not (tmp_path / "gone.db").exists()


def test_a_damaged_file_is_one_error(rec: Record, path: Path) -> None:
    for step in range(300):
        rec.scalars(step, {"loss": step})
        rec.row(step, "log10_grad", "lstm", np.full(400, -1.0))
    rec.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xa5" * (len(whole) - 8192))
    with pytest.raises(RecordError, match="damaged"), read(path) as run:
        run.rows("log10_grad", "lstm")
        run.scalars("loss")


def test_create_refuses_what_exists_and_overwrites_only_records(path: Path) -> None:
    with Record.create(path, config={"old": 1}) as rec:
        rec.scalars(0, {"loss": 1.0})
    with pytest.raises(RecordError, match="exists"):
        Record.create(path, config={})
    Record.create(path, config={"new": 1}, overwrite=True).close()
    run = read(path)
    assert run.config == {"new": 1} and run.scalar_names() == []
    run.close()
    path.write_text("somebody's thesis")
    with pytest.raises(RecordError, match="not a Steadygrad record"):
        Record.create(path, config={}, overwrite=True)
    assert path.read_text() == "somebody's thesis"


@pytest.mark.parametrize(
    "write",
    [
        lambda rec: rec.scalars(-1, {"loss": 1.0}),
        lambda rec: rec.scalars(0.5, {"loss": 1.0}),
        lambda rec: rec.scalars(0, {"loss": "low"}),
        lambda rec: rec.row(0, "log10_grad", "lstm", np.zeros((2, 3))),
        lambda rec: rec.row(0, "log10_grad", "lstm", np.zeros(0)),
        lambda rec: rec.row(0, "log10_grad", "lstm", np.zeros(3, complex)),
        lambda rec: rec.note("model", object()),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(rec: Record, write: Any) -> None:
    with pytest.raises(RecordError):
        write(rec)
    run = seen(rec)
    assert (run.scalar_names(), run.quantities(), run.notes) == ([], [], {})


def test_a_closed_record_and_unknown_names_say_so(rec: Record, path: Path) -> None:
    rec.scalars(0, {"loss": 1.0})
    run = seen(rec)
    with pytest.raises(RecordError, match="'loss'"):
        run.scalars("los")
    with pytest.raises(RecordError, match="no heat map"):
        run.rows("log10_grad", "lstm")
    run.close()
    rec.close()
    for late in (run.scalar_names, lambda: rec.scalars(1, {"a": 1}), rec.commit):
        with pytest.raises(RecordError, match="closed"):
            late()


# File systems -----------------------------------------------------------------------------------


def test_network_file_systems_are_told_by_the_deepest_and_latest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "srv:/home /home nfs4 rw 0 0\n"
        "/dev/sdb /home/me/scratch xfs rw 0 0\n"
        "srv:/x /mnt/two\\040words lustre rw 0 0\n"
        "me@host: /mnt/far fuse.sshfs rw 0 0\n"
        "/dev/sdc /mnt/usb fuseblk rw 0 0\n"
        "none /home/me/hidden nfs rw 0 0\n"
        "none /home/me/hidden tmpfs rw 0 0\n"
    )
    expected = {
        "/var/run.db": False,
        "/home/me/run.db": True,
        "/homely/run.db": False,
        "/home/me/scratch/a/run.db": False,
        "/mnt/two words/run.db": True,
        "/mnt/far/run.db": True,
        "/mnt/usb/run.db": False,
        "/home/me/hidden/run.db": False,
    }
    assert {p: filesystem.is_network(Path(p), mounts) for p in expected} == expected
    assert not filesystem.is_network(Path("/home/me/run.db"), tmp_path / "no such table")


def test_a_table_of_results_is_ours_from_its_first_moment_on(tmp_path: Path) -> None:
    # Its mark in the WAL alone would be lost to a reader of the file's start after a kill.
    path = tmp_path / "results.db"
    with Results(path):
        assert kind_of(path) == "record"
        (tmp_path / "killed").mkdir()
        shutil.copy(path, tmp_path / "killed")
    assert kind_of(tmp_path / "killed" / "results.db") == "record"
