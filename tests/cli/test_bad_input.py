"""Wrong use: exit code 2, one clear line, and nothing written."""

import os
import pickle
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from steadygrad.cli import main
from steadygrad.train import TrainConfig, checkpoint, train
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.events import Event, Stepped

RNG = np.random.default_rng(0)
SERIES = [f"{v:.3f}" for v in np.sin(np.arange(120) / 4) + RNG.normal(size=120) / 10]


@dataclass(frozen=True)
class Bad:
    """A file that cannot be used, the options it is tried with, and what must be said."""

    name: str
    content: bytes | None
    says: str
    options: tuple[str, ...] = ()
    file: str = "data.csv"


def table(*columns: list[str], header: str, delimiter: str = ",") -> bytes:
    rows = zip(*columns, strict=True)
    return "\n".join([header, *(delimiter.join(row) for row in rows), ""]).encode()


def with_cell(row: int, cell: str) -> list[str]:
    return [cell if index == row else value for index, value in enumerate(SERIES)]


DATES = [f"2020-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(120)]
TWO = table(SERIES, SERIES, header="a,b")
BAD = [
    Bad("missing file", None, r"no such file"),
    Bad("empty file", b"", r"is empty"),
    Bad("blank lines only", b"\n\n\n", r"no header line"),
    Bad("header only", b"a,b\n", r"no rows"),
    Bad("date column alone", table(DATES, header="date"), r"no column of numbers"),
    Bad("texts alone", table(["x", "y"] * 60, header="word"), r"no column of numbers"),
    Bad("no header, one column", "\n".join(SERIES).encode(), r"line 1 .*add a header line"),
    Bad("no header, two columns", TWO.split(b"\n", 1)[1], r"line 1 .*add a header line"),
    Bad(
        "no header, dates", table(DATES, SERIES, header=f"2019-12-31,{SERIES[0]}"), r"add a header"
    ),
    Bad(
        "no header, texts",
        table(["NW", "SE"] * 60, SERIES, header=f"NW,{SERIES[0]}"),
        r"add a head",
    ),
    Bad("doubled name", table(SERIES, SERIES, header="a,a"), r"'a' more than once"),
    Bad(
        "text among numbers",
        table(with_cell(40, "oops"), SERIES, header="a,b"),
        r"line 42, column 'a': expected a number, got 'oops' \(1 such cell\)",
    ),
    Bad("too few rows", table(SERIES[:20], header="a"), r"20 rows are too few", ("--window", "24")),
    Bad("window too long", TWO, r"too few for window 500", ("--window", "500")),
    Bad("no such target", TWO, r"no numeric column 'c'.*there are: a, b", ("--target", "c")),
    Bad(
        "constant target",
        table(SERIES, ["5"] * 120, header="a,b"),
        r"column 'b' is constant \(5 in every row\).*choose among: a$",
        ("--target", "b"),
    ),
    Bad("all constant", table(["5"] * 120, header="a"), r"every numeric column is constant"),
    Bad(
        "constant while it trains",
        table(["5"] * 90 + SERIES[:30], header="a"),
        r"constant in the training part",
    ),
    Bad(
        "mixed delimiters",
        TWO.replace(SERIES[3].encode() + b",", SERIES[3].encode() + b";", 1),
        r"mixed delimiters: line 1 is split by comma, line 5 by semicolon",
    ),
    Bad("ragged row", TWO + b"1,2,3\n", r"line 122 has 3 fields, line 1 has 2"),
    Bad("binary", bytes(range(256)) * 20, r"is a binary file"),
    Bad(
        "numbers in two ways",
        table(with_cell(40, "1.234.567"), SERIES, header="a,b"),
        r"column 'a': numbers are written in two ways",
    ),
    Bad("no such encoding", TWO, r"--encoding cp0: unknown", ("--encoding", "cp0")),
    Bad("unclosed quote", b'a,b\n1,2\n"3' + b",4\n" * 100_000, r"is not a CSV|fields"),
    Bad("text too short", b"abc", r"3 char symbols", file="a.txt"),
    Bad("one symbol only", b"a" * 5000, r"1 different", file="a.txt"),
    Bad(
        "no such cell",
        TWO,
        r"no such cell; did you mean 'lstm'\?; there are: .*elman, .*lstm",
        ("--cell", "lstn"),
    ),
    Bad("no such option", TWO, r"options of elman: nonl", ("--cell", "elman:gain=1")),
    Bad(
        "bad option value",
        TWO,
        r"nonlinearity must be 'tanh' or 'relu'",
        ("--cell", "elman:nonlinearity=sin"),
    ),
    Bad("no such remedy", TWO, r"no remedy 'hope'", ("--remedies", "hope")),
    Bad("zero window", TWO, r"--window 0: expected at least 1", ("--window", "0")),
    Bad("bad dropout", TWO, r"--dropout 1.0: expected", ("--dropout", "1")),
    Bad("bad rate", TWO, r"--learning-rate nan: expected", ("--learning-rate", "nan")),
    Bad("resume and overwrite", TWO, r"give one of them", ("--resume", "--overwrite")),
]


def assert_refused(
    arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(folder)
    assert main(["train", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == "" or output.startswith("reading ")  # and what it was understood to hold
    assert re.search(says, errors.strip()), errors
    assert errors.startswith("steadygrad: ") and errors.count("\n") == 1
    assert len(errors) < 600
    assert snapshot(folder) == before


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below the folder, contents too; sidecars of SQLite come with reading."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
        if not p.name.endswith(("-wal", "-shm"))
    }


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_file_or_option(
    bad: Bad, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if bad.content is not None:
        Path(bad.file).write_bytes(bad.content)
    assert_refused([bad.file, *bad.options], bad.says, tmp_path, capsys)


def test_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused([str(tmp_path)], "is a directory", tmp_path, capsys)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_does_not_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    assert main(["train", str(pipe)]) == 2
    assert "not a regular file" in capsys.readouterr().err


def test_one_line_of_200_megabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = tmp_path / "long.csv"
    with long.open("wb") as file:
        for _ in range(200):
            file.write(b"1,2,3,4," * (2**20 // 8))
    for name in ("long.csv", "long.txt"):
        path = long.rename(tmp_path / name)
        assert main(["train", str(path)]) == 2
        assert re.search(r"line 1 is longer|MiB, more than", capsys.readouterr().err)
        long = path
    assert [p.name for p in tmp_path.iterdir()] == ["long.txt"]


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_unwritable_folder(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.csv"
    data.write_bytes(TWO)
    (tmp_path / "file").write_text("in the way")
    arguments = [str(data), "--out", str(tmp_path / out), "--max-steps", "1"]
    assert_refused(arguments, "nothing can be written there", tmp_path, capsys)


def stop_at_once(event: Event) -> None:
    if isinstance(event, Stepped):
        signal.raise_signal(signal.SIGINT)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def torn_early(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def another_file(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


class Trap:
    """A pickle that would act when it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("trapped",)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


def torch_saved(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def torch_saved_the_old_way(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (torn, "truncated or damaged"),
        (torn_early, "truncated or damaged"),
        (emptied, "truncated or damaged"),
        (another_file, "no 'steadygrad checkpoint 2'"),
        (pickled, "is a pickle"),
        (torch_saved, "is a pickle"),
        (torch_saved_the_old_way, "is a pickle"),
    ],
)
def test_spoilt_checkpoint(
    spoil: Callable[[Path], None],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data.csv"
    data.write_bytes(TWO)
    train(TrainConfig(data, out=tmp_path / "run", hidden=4), stop_at_once)
    spoil(tmp_path / "run" / "checkpoint.safetensors")
    for option in ("--resume", "--json"):
        arguments = [str(data), "--out", str(tmp_path / "run"), "--hidden", "4", option]
        assert_refused(arguments, says, tmp_path, capsys)
    assert not (tmp_path / "trapped").exists()


def test_checkpoint_of_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.csv"
    data.write_bytes(TWO)
    out = tmp_path / "run"
    train(TrainConfig(data, out=out, hidden=4), stop_at_once)
    arguments = [str(data), "--out", str(out), "--resume", "--hidden", "4", "--cell", "gru"]
    assert_refused(arguments, "cell is 'lstm' there, 'gru' here", tmp_path, capsys)


@pytest.mark.parametrize("change", ["shape", "missing", "unknown", "random state"])
def test_checkpoint_of_another_shape(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data.csv", tmp_path / "run"
    data.write_bytes(TWO)
    train(TrainConfig(data, out=out, hidden=4), stop_at_once)
    saved = checkpoint.read(out / "checkpoint.safetensors")
    tensors = dict(saved.tensors)
    if change == "shape":
        tensors["best/head.bias"] = torch.zeros(99)
    elif change == "unknown":
        tensors["model/tail.bias"] = torch.zeros(1)
    else:
        del tensors["model/head.bias" if change == "missing" else "rng/cpu"]
    checkpoint.write(out / "checkpoint.safetensors", Checkpoint(tensors, saved.facts))
    arguments = [str(data), "--out", str(out), "--resume", "--hidden", "4"]
    says = "no random state" if change == "random state" else "is of another model: "
    assert_refused(arguments, says, tmp_path, capsys)


def test_a_record_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.db"
    path.write_text("no record")
    assert main(["report", str(path)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "run.db" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["run.db"]
