"""Files are put in place whole, through no link, and never over somebody else's."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from steadygrad import files
from steadygrad.cli import main
from steadygrad.record import Record
from steadygrad.record.ownership import kind_of
from steadygrad.train import TrainConfig, train
from steadygrad.train.events import Event, Stepped
from steadygrad.train.folder import Folder


def test_no_temporary_name_can_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    opened: list[str] = []
    plain = os.open

    def noted(path: Path, flags: int, *rest: int) -> int:
        opened.append(str(path))
        return plain(path, flags, *rest)

    monkeypatch.setattr(os, "open", noted)
    for _ in range(3):
        files.replace(tmp_path / "a", b"x")
    temporary = [name for name in opened if name.endswith(".tmp")]
    assert len(set(temporary)) == 3


def test_a_link_in_the_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)  # guessed all the same
    (tmp_path / f".a.{'0' * 16}.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.replace(tmp_path / "a", b"evil")
    assert victim.read_text() == "untouched"


def test_a_link_at_the_place_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "a").symlink_to(victim)
    files.replace(tmp_path / "a", b"new")
    assert victim.read_text() == "untouched" and (tmp_path / "a").read_bytes() == b"new"


def test_a_disk_that_refuses_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        files.replace(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.replace(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_leftovers_of_killed_writers_are_swept(tmp_path: Path) -> None:
    ours = [tmp_path / f".{n}.{'0f' * 8}.tmp" for n in ("a", "step-2.safetensors")]
    others = [tmp_path / n for n in (f".b.{'0f' * 8}.tmp", ".a.tmp", f"a.{'0f' * 8}.tmp", "a")]
    for path in (*ours, *others):
        path.write_text("x")
    files.sweep(tmp_path, ["a", "step-*.safetensors"])
    assert not any(path.exists() for path in ours) and all(path.exists() for path in others)


def test_what_is_being_written_is_not_swept(tmp_path: Path) -> None:
    def checked(beside: Path) -> None:
        files.sweep(tmp_path, ["a"])
        assert beside.exists()

    files.replace(tmp_path / "a", b"content", check=checked)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_run_sweeps_what_was_left_of_each_of_its_files(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    names = ["nonfinite-12.safetensors", "before-rollback-3.safetensors", folder.weights.name]
    left = [tmp_path / f".{name}.{'0f' * 8}.tmp" for name in names]
    for path in left:
        path.write_text("x")
    folder.sweep()
    assert not any(path.exists() for path in left)


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    path = tmp_path / "wave.csv"
    rows = np.sin(np.arange(200) / 3)
    path.write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    return path


QUICK = ("--window", "8", "--horizon", "1", "--hidden", "4", "--lag", "none", "--max-steps", "2")


def weights(path: Path) -> None:
    save_file({"theirs": torch.ones(3)}, path)


def words(path: Path) -> None:
    path.write_text("<p>somebody's page</p>")


def link(path: Path) -> None:
    target = path.with_name(f"target-of-{path.name}")
    target.write_text("somebody's")
    path.symlink_to(target)


def pipe(path: Path) -> None:
    os.mkfifo(path)


FOREIGN: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("model.safetensors", weights),
    ("checkpoint.safetensors", weights),
    ("before-rollback-1.safetensors", weights),
    ("report.html", words),
    ("run.db", words),
    ("model.safetensors", link),
    ("report.html", link),
    ("report.html", pipe),
)


@pytest.mark.parametrize(("name", "make"), FOREIGN)
@pytest.mark.parametrize("option", [(), ("--overwrite",), ("--resume",)])
def test_files_of_others_are_never_touched(
    name: str,
    make: Callable[[Path], None],
    option: tuple[str, ...],
    wave: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    make(out / name)

    def seen() -> dict[str, object]:
        return {
            p.name: p.readlink() if p.is_symlink() else p.is_file() and p.read_bytes()
            for p in out.iterdir()
        }

    before = seen()
    assert main(["train", str(wave), "--out", str(out), *QUICK, *option]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and name in errors
    assert seen() == before


def test_a_file_put_beside_a_run_of_ours_stays(
    wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Stepped):
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "out"
    train(TrainConfig(wave, window=8, horizon=1, hidden=4, lag="none", max_steps=2, out=out), stop)
    weights(out / "model.safetensors")
    before = (out / "model.safetensors").read_bytes()
    for option in ("--resume", "--overwrite"):
        assert main(["train", str(wave), "--out", str(out), *QUICK, option]) == 2
        assert "model.safetensors: was not written by Steadygrad" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before


def test_ours_are_known(wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["train", str(wave), "--out", str(out), *QUICK]) == 0
    assert {p.name: kind_of(p) for p in out.iterdir() if not p.name.endswith(("-wal", "-shm"))} == {
        "run.db": "record",
        "checkpoint.safetensors": "tensors",
        "model.safetensors": "tensors",
        "report.html": "page",
    }
    assert main(["train", str(wave), "--out", str(out), *QUICK, "--overwrite"]) == 0
    capsys.readouterr()


def test_a_damaged_checkpoint_of_ours_can_be_overwritten(wave: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["train", str(wave), "--out", str(out), *QUICK]) == 0
    path = out / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert main(["train", str(wave), "--out", str(out), *QUICK, "--resume"]) == 2
    assert main(["train", str(wave), "--out", str(out), *QUICK, "--overwrite"]) == 0


def test_a_report_replaces_pages_of_ours_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Record.create(tmp_path / "run.db", config={}) as record:
        record.scalars(1, {"loss": 1.0})
    page = tmp_path / "report.html"
    words(page)
    assert main(["report", str(tmp_path / "run.db")]) == 2
    assert page.read_text() == "<p>somebody's page</p>"
    # Not even the record itself, named as the page by a slip.
    assert main(["report", str(tmp_path / "run.db"), "--out", str(tmp_path / "run.db")]) == 2
    page.unlink()
    for _ in range(2):
        assert main(["report", str(tmp_path / "run.db")]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("name", ["table.csv", "table.tex", "grid.svg", "grid.html", "results.db"])
def test_a_grid_replaces_nothing_of_others(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("somebody's")
    grid = ["bench", "adding", "--cells", "elman", "--seeds", "1", "--updates", "1"]
    assert main([*grid, "--out", str(tmp_path)]) == 2
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "somebody's"
    assert capsys.readouterr().err.count("\n") == 1


def test_one_look_does_not_replace_the_record_of_a_training(
    wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", str(wave), "--out", str(out), *QUICK]) == 0
    before = (out / "run.db").read_bytes()
    assert main(["diagnose", str(out), "--out", str(out / "run.html")]) == 2
    assert "is the record of a run" in capsys.readouterr().err
    assert (out / "run.db").read_bytes() == before
