"""The smallest form of what others' users reported: half copies, empty files, caches swept away."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steadygrad.errors import InputError
from steadygrad.record import read
from steadygrad.scan.backends.c import build, cache, compiler
from steadygrad.train import TrainConfig, train
from steadygrad.train.events import Event, Remark, Saved, Stepped
from tests.helpers.marks import needs_compiler


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "wave.csv"
    rows = np.sin(np.arange(80) / 3)
    path.write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    return path


def config(wave: Path, out: Path, *, resume: bool = False, max_steps: int = 8) -> TrainConfig:
    return TrainConfig(
        wave,
        out=out,
        window=6,
        horizon=1,
        hidden=4,
        lag="none",
        budget=0.0,
        batch_size=16,
        threads=1,
        validate_every=4,
        max_steps=max_steps,
        checkpoint_every_seconds=1e-9,
        resume=resume,
    )


def stop_at(step: int) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == step:
            signal.raise_signal(signal.SIGINT)

    return tell


class Killed(BaseException):
    pass


def copied_while_it_ran(wave: Path, out: Path, *, with_journal: bool) -> None:
    """A folder of a run as somebody copies it in the midst of the training."""

    def copy(event: Event) -> None:
        if isinstance(event, Saved) and event.step == 5:
            names = ["run.db", "checkpoint.safetensors", *(["run.db-wal"] if with_journal else [])]
            for name in names:
                shutil.copy(out.with_name("run") / name, out)
            raise Killed

    out.mkdir()
    with pytest.raises(Killed):
        train(config(wave, out.with_name("run")), copy)


def test_a_record_copied_without_its_journal_says_what_it_lacks(wave: Path, tmp_path: Path) -> None:
    # Committed writes stand in run.db-wal until SQLite moves them: a copy of run.db alone is old.
    out = tmp_path / "out"
    copied_while_it_ran(wave, out, with_journal=False)
    told: list[str] = []
    outcome = train(
        config(wave, out, resume=True),
        lambda event: told.append(event.kind) if isinstance(event, Remark) else None,
    )
    assert outcome.status == "finished" and "gap" in told
    with read(out / "run.db") as run:
        (gap,) = (e for e in run.events() if e["kind"] == "gap")
        assert "to 5" in gap["text"] and "run.db-wal" in gap["text"]
        assert np.array_equal(run.steps("loss"), [6, 7, 8])


def test_a_record_copied_with_its_journal_is_whole(wave: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    copied_while_it_ran(wave, out, with_journal=True)
    train(config(wave, out, resume=True))
    with read(out / "run.db") as run:
        assert not [e for e in run.events() if e["kind"] == "gap"]
        assert np.array_equal(run.steps("loss"), np.arange(1, 9))


def test_a_journal_left_behind_is_not_taken_for_that_of_a_new_record(
    wave: Path, tmp_path: Path
) -> None:
    # run.db was deleted to begin anew, run.db-wal was overlooked: nothing of it may come back.
    out = tmp_path / "out"
    copied_while_it_ran(wave, out, with_journal=True)
    (out / "run.db").unlink()
    (out / "checkpoint.safetensors").unlink()
    train(config(wave, out, max_steps=2))
    with read(out / "run.db") as run:
        assert np.array_equal(run.steps("loss"), [1, 2])
        assert run.notes["title"] == "lstm on wave.csv"


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_files_that_a_power_cut_left_empty(content: bytes, wave: Path, tmp_path: Path) -> None:
    train(config(wave, tmp_path / "out"), stop_at(3))
    for name in ("checkpoint.safetensors", "run.db"):
        shutil.copytree(tmp_path / "out", tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
        with pytest.raises(ValueError, match=name) as raised:
            train(config(wave, tmp_path / name, resume=True))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("stop", range(3, 8))  # an epoch has four batches: its end among them
def test_the_end_of_an_epoch_is_neither_repeated_nor_skipped(
    stop: int, wave: Path, tmp_path: Path
) -> None:
    train(config(wave, tmp_path / "whole"))
    train(config(wave, tmp_path / "parts"), stop_at(stop))
    train(config(wave, tmp_path / "parts", resume=True))
    ends = [load_file(tmp_path / n / "checkpoint.safetensors") for n in ("parts", "whole")]
    ends = [{k: t for k, t in e.items() if not k.startswith("watch/")} for e in ends]
    torch.testing.assert_close(*ends, rtol=0, atol=0, equal_nan=True)


def test_a_checkpoint_of_another_run_in_its_place(wave: Path, tmp_path: Path) -> None:
    train(config(wave, tmp_path / "a"), stop_at(3))
    other = wave.with_name("other.csv")
    other.write_text(wave.read_text().replace("0.", "1."))
    train(config(other, tmp_path / "b"), stop_at(3))
    shutil.copy(tmp_path / "b" / "checkpoint.safetensors", tmp_path / "a")
    with pytest.raises(InputError, match="is not the file that the run"):
        train(config(wave, tmp_path / "a", resume=True))


@needs_compiler
@pytest.mark.parametrize("when", ["before", "while it compiles", "after"])
def test_a_cache_that_is_swept_away(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    build.forget()
    source = build.Source("int steadygrad_forward(void) { return 41; }\n")
    plain = compiler.run

    def swept(*given: object) -> None:
        plain(*given)  # pyright: ignore[reportArgumentType]
        shutil.rmtree(folder, ignore_errors=True)

    if when == "while it compiles":
        monkeypatch.setattr(compiler, "run", swept)
    if when != "before":
        assert build.load(source, build.WHOLE)
        monkeypatch.setattr(compiler, "run", plain)
    shutil.rmtree(folder, ignore_errors=True)
    build.forget()
    (library,) = build.load(source, build.WHOLE)
    assert library.steadygrad_forward() == 41
    build.forget()
