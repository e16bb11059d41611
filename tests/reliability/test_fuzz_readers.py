"""Whatever a file holds: a command ends with a result, or with one line and exit code 2.

The few cases of the default suite are the first of the thousands that ``make test-reliability``
tries; each is drawn from its number alone, so that what fails can be run again.
"""

import contextlib
import gzip
import io
import json
import lzma
import random
import shutil
import sqlite3
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadygrad.cli import main
from steadygrad.errors import InputError
from steadygrad.remedies import parse
from steadygrad.spec import read_spec
from steadygrad.tasks import TASKS
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.train import TrainConfig, checkpoint, train
from steadygrad.train.checkpoint import Checkpoint
from steadygrad.train.progress import Progress

FEW, MANY = 15, 3000
QUICK = ("--window", "12", "--horizon", "2", "--hidden", "4", "--lag", "none", "--budget", "0")
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "x", "", "y" * 3000),
    *([], {}, [1], {"a": 1}, [[]], [{}], "\ud800", "1e999"),
)
CELLS: tuple[Any, ...] = (
    *(None, 0, -1, 10**18, 1.5, float("inf"), "nan", "x", "", b"", b"\0\1", b"abc"),
    *("{}", "[]", "null", '{"a": 1}', '"t"', "1e999", "NaN", "[" * 5000, "[{}]", "1" * 5000),
)
TABLES = ("meta", "name", "scalar", "series", "cells", "event", "finding", "note")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went back twice, stopped before its end."""
    folder = tmp_path_factory.mktemp("run")
    rows = np.sin(np.arange(300) / 3) + np.sin(np.arange(300) / 4.7)
    data = folder / "wave.csv"
    data.write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    plain = Progress.learning_rate

    def wild(self: Progress, start: float) -> float:
        return plain(self, start) * (1e4 if self.step >= 20 else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "learning_rate", wild)
        config = {"window": 12, "horizon": 2, "hidden": 4, "lag": "none", "budget": 0.0}
        train(
            TrainConfig(
                data, out=folder / "out", max_steps=50, validate_every=10, rollbacks=2, **config
            )
        )
    return folder


def clean(arguments: list[str], *, within: tuple[int, ...] = (0, 1, 2)) -> None:
    """Run a command in this process: an exit code, at most one line of trouble, no exception."""
    out, trouble = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(trouble):
        code = main(arguments)
    assert code in within
    said = trouble.getvalue()
    assert "Traceback" not in said
    if code == 2:
        assert said.startswith("steadygrad: ") and said.count("\n") == 1 and len(said) < 3000, said


def mutated(value: Any, rng: random.Random) -> Any:
    """The same with something, somewhere inside, that is something else."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.3:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [mutated(v, rng) if i == place else v for i, v in enumerate(value)]
    return rng.choice(ODD)


def cases(count: int) -> list[Any]:
    few = list(range(FEW))
    return few + [pytest.param(n, marks=pytest.mark.slow) for n in range(FEW, count, 50)]


def numbers(case: int) -> Iterator[random.Random]:
    """One case of the default suite; fifty of the slow one."""
    for number in range(case, case + (1 if case < FEW else 50)):
        yield random.Random(number)


def spoil_row(path: Path, rng: random.Random) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        table = rng.choice((*TABLES, "note", "note", "event", "finding", "meta"))
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
        if not rows:
            return
        row, place = rng.choice(rows), rng.randrange(len(columns))
        new = rng.choice(CELLS)
        if isinstance(row[place], str) and row[place][:1] in '{["' and rng.random() < 0.8:
            with contextlib.suppress(ValueError):
                new = json.dumps(mutated(json.loads(row[place]), rng))
        where = " AND ".join(f"{name} IS ?" for name in columns)
        with contextlib.suppress(sqlite3.Error):
            db.execute(f"UPDATE {table} SET {columns[place]} = ? WHERE {where}", (new, *row))
        db.commit()


def spoil_bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 3, 30))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    path.write_bytes(data)


@pytest.mark.parametrize("case", cases(MANY))
@pytest.mark.parametrize("spoil", [spoil_row, spoil_bytes])
def test_records(
    case: int, spoil: Callable[[Path, random.Random], None], run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.db"
    for rng in numbers(case):
        for old in tmp_path.iterdir():
            old.unlink()
        shutil.copy(run / "out" / "run.db", path)
        spoil(path, rng)
        clean([rng.choice(("check", "explain")), str(path)])
        clean([rng.choice(("check", "explain")), str(path), "--json"])
        clean(["report", str(path)])


@pytest.mark.parametrize("case", cases(MANY))
def test_checkpoints(case: int, run: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", run / "wave.csv"
    for rng in numbers(case):
        shutil.copytree(run / "out", out, dirs_exist_ok=True)
        path = out / "checkpoint.safetensors"
        if rng.random() < 0.3:
            spoil_bytes(path, rng)
            with pytest.raises(InputError):
                checkpoint.read(path)
        else:
            saved = checkpoint.read(path)
            facts = mutated(dict(saved.facts), rng)
            facts = facts if isinstance(facts, dict) else {"format": checkpoint.FORMAT}
            with contextlib.suppress(UnicodeEncodeError):
                checkpoint.write(path, Checkpoint(saved.tensors, facts))
        steps = ["--max-steps", "52", "--validate-every", "10", "--rollbacks", "2"]
        clean(["train", str(data), "--out", str(out), "--resume", *QUICK, *steps])


SPECS = ("clip-norm:max_norm=1", "elman:nonlinearity=relu", "adding:length=50,form=le", "omega")


def spoiled_text(text: str, rng: random.Random) -> str:
    letters = list(text)
    for _ in range(rng.choice((1, 2, 5))):
        place = rng.randrange(len(letters) + 1)
        new = rng.choice((*string.printable, "\0", "\ud800", "9" * 30, "é", ":=", ",,"))
        letters[place : place + rng.randrange(3)] = new
    return "".join(letters)


@pytest.mark.parametrize("case", cases(MANY))
def test_specs(case: int) -> None:
    for rng in numbers(case):
        text = spoiled_text(rng.choice(SPECS), rng)
        for read in (parse, lambda t: read_spec(t, TASKS, "task")):
            with contextlib.suppress(ValueError):
                read(text)


TOML = 'tasks = ["adding"]\ncells = ["lstm", "gru"]\nseeds = 2\nupdates = 10\nout = "x"\n'


@pytest.mark.parametrize("case", cases(MANY // 4))
def test_toml(case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steadygrad import bench

    def nothing(*_: object, **__: object) -> list[Any]:
        return []

    monkeypatch.setattr(bench, "run_grid", nothing)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "grid.toml"
    for rng in numbers(case):
        text = spoiled_text(TOML, rng)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        clean(["bench", str(path), "--json"])


@pytest.mark.parametrize("case", cases(MANY))
@pytest.mark.parametrize("ending", [".gz", ".xz"])
def test_packed_data_sets(
    case: int, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEADYGRAD_DATA", str(tmp_path))
    pack = {".gz": gzip.compress, ".xz": lzma.compress}[ending]
    path = tmp_path / f"set{ending}"
    for rng in numbers(case):
        path.write_bytes(pack(bytes(rng.randrange(256) for _ in range(300))))
        spoil_bytes(path, rng)
        with pytest.raises(InputError):
            read_file(DataFile("set", "0" * 64))


@pytest.mark.parametrize("case", cases(MANY))
def test_tables(case: int, tmp_path: Path) -> None:
    from steadygrad.tasks import read_forecast

    path = tmp_path / "data.csv"
    for rng in numbers(case):
        header = "".join(rng.choice(("date,", "", "x,")) for _ in range(1)) + "y"
        width = header.count(",") + 1
        cells = ("nan", "1", "", "2020-01-01", "x", "1e999", "-", "2020-13-45", "0x1", "1_0", "\0")
        rows = rng.choice((0, 1, 2, 30, 120))
        lines = [
            ",".join(rng.choice(cells[:-6] * 6 + cells) for _ in range(width)) for _ in range(rows)
        ]
        path.write_text("\n".join([header, *lines]) + "\n")
        with contextlib.suppress(InputError):
            read_forecast(path, None, 12, 2)


EDGES = (
    ["bench", ","],
    ["bench", ""],
    ["report", "/"],
    ["report", ""],
    ["check", ""],
    ["explain", "/"],
    ["train", "x" * 1_000_000],
    ["train", "wave.csv", "--seed", str(10**25)],
    ["train", "wave.csv", "--hidden", str(10**25)],
    ["train", "wave.csv", "--cell", "y" * 1_000_000],
    ["bench", "adding", "--seeds", str(10**25)],
    ["bench", "z" * 1_000_000],
    ["train", "date_and_nan.csv"],
    ["train", "wave\0.csv"],
)


@pytest.mark.parametrize("arguments", EDGES, ids=lambda a: " ".join(a)[:40])
def test_edges(
    arguments: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / "wave.csv", tmp_path)
    Path("date_and_nan.csv").write_text("date,y\n2020-01-01,nan\n")
    clean(arguments, within=(2,))
