"""Spoiled inputs for every reader, each drawn from its number alone, in this process.

A draw makes one spoiled input and gives it to its reader, which ends with a result or with an error
meant for people; whatever else is raised is a defect. `benchmarks.reliability fuzz` makes as many
draws as wanted, the tests some. Nothing is imported or trained for a draw, so that most take about
a millisecond; every so often one goes the whole way of a command.
"""

import contextlib
import gzip
import io
import json
import lzma
import os
import random
import shutil
import signal
import sqlite3
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from steadygrad.bench.grid import read_back
from steadygrad.bench.trial import Trial
from steadygrad.cells import CELLS
from steadygrad.cli import bench as bench_command
from steadygrad.cli import main
from steadygrad.cli.explain_run import explain_run
from steadygrad.deploy.forecasting import ForecastModel
from steadygrad.deploy.loading import load
from steadygrad.diagnosis import Watch, black_box, watch
from steadygrad.diagnosis.check import check
from steadygrad.diagnosis.reproduce import reproduce
from steadygrad.errors import InputError, RecordError
from steadygrad.record import Record, Results, read
from steadygrad.remedies import parse
from steadygrad.report import html
from steadygrad.report.grid_table import rows as grid_rows
from steadygrad.scan.backends.c import cache
from steadygrad.sealed import sealed, unsealed
from steadygrad.spec import read_spec
from steadygrad.tasks import TASKS, read_forecast
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.text import read_text
from steadygrad.train import TrainConfig, checkpoint, train
from steadygrad.train.checkpoint_facts import facts_of
from steadygrad.train.gradient import Gradient
from steadygrad.train.interrupt import Interrupt
from steadygrad.train.loop import Loop
from steadygrad.train.progress import Progress

HANGS = 60  # seconds after which a draw counts as hanging
QUICK = ("--window", "12", "--horizon", "2", "--hidden", "4", "--lag", "none", "--budget", "0")
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "x", "", "y" * 3000),
    *([], {}, [1], {"a": 1}, [[]], [{}], "\ud800", "1e999", 2**53, -(2**63), 2**31, "\0"),
)
SQL_VALUES: tuple[Any, ...] = (
    *(None, 0, -1, 10**18, 1.5, float("inf"), "nan", "x", "", b"", b"\0\1", b"abc"),
    *("{}", "[]", "null", '{"a": 1}', '"t"', "1e999", "NaN", "[" * 5000, "[{}]", "1" * 5000),
)
TABLES = ("meta", "name", "scalar", "series", "cells", "event", "finding", "note")
TOML = 'tasks = ["adding"]\ncells = ["lstm", "gru"]\nseeds = 2\nupdates = 10\nout = "x"\n'
SPECS = (
    *("clip-norm:max_norm=1", "elman:nonlinearity=relu", "adding:length=50,form=le", "omega"),
    *(
        "lstm",
        "gru:form=torch",
        "flossing:before=2,bout=2",
        "copy:length=3",
        "learning-rate:factor=2",
    ),
)
COMMANDS = (
    ["train", "wave.csv", "--window", "12", "--lag", "3", "--cell", "gru", "--seed", "1"],
    ["bench", "adding:length=20", "--cells", "gru", "--seeds", "2", "--executor", "local"],
    ["report", "run.db", "--out", "x.html"],
    ["check", "run.db", "--fail-on", "exploding"],
    ["explain", "vanishing"],
    ["forecast", "out", "wave.csv", "--horizon", "2"],
    ["diagnose", "out", "--lag", "3"],
    ["compare", "a", "b"],
    ["learn", "clip"],
)

Rng = random.Random
Draw = Callable[[Rng], None]


class Defect(AssertionError):
    """A reader did what it must not do."""


def mutated(value: Any, rng: Rng) -> Any:
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


def spoiled(data: bytes, rng: Rng) -> bytes:
    """The same bytes with some changed, put in, left out, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 30))):
        place = rng.randrange(len(changed)) if changed else 0
        if rng.random() < 0.8 and changed:
            changed[place] ^= rng.randrange(1, 256) if rng.random() < 0.5 else 1 << rng.randrange(8)
        elif rng.random() < 0.5:
            changed[place:place] = rng.randbytes(rng.choice((1, 8)))
        else:
            del changed[place : place + rng.choice((1, 8))]
    if rng.random() < 0.2 and changed:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def spoiled_text(text: str, rng: Rng) -> str:
    """The same text with some letters replaced, put in or left out."""
    letters = list(text)
    for _ in range(rng.choice((1, 2, 5))):
        place = rng.randrange(len(letters) + 1)
        new = rng.choice((*string.printable, "\0", "\ud800", "9" * 30, "\u00e9", ":=", ",,"))
        letters[place : place + rng.randrange(3)] = new
    return "".join(letters)


def spoiled_tensor(tensor: Tensor, rng: Rng) -> Tensor:
    """Another shape, type or value."""
    return rng.choice(
        (
            lambda: torch.zeros(2, 2),
            lambda: torch.tensor(1.0),
            lambda: torch.empty(0),
            lambda: tensor.to(torch.float64),
            lambda: tensor.to(torch.int8),
            lambda: tensor.unsqueeze(0),
            lambda: torch.full_like(tensor, 200),
            lambda: tensor.flatten()[:-1],
        )
    )()


def _answered(call: Callable[[], object]) -> object:
    """The result of a reader, or None where it refused in words; any other error is a defect."""
    try:
        return call()
    except (InputError, RecordError) as error:
        told = str(error)
        if "\n" in told.strip() and len(told) > 3000:
            raise Defect(f"told at length: {told[:200]}") from None
        return None


@dataclass(frozen=True)
class Reader:
    """One kind of input.

    Attributes:
        name: Its name in the table.
        draw: Makes one spoiled input and reads it.
        share: Share of all draws, by what a draw costs and how much there is to get wrong.
    """

    name: str
    draw: Draw
    share: float


class Readers:
    """Every reader, with a run of its own to spoil.

    Args:
        folder: An empty folder, best one in memory; it becomes the working folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "out"
        self._train()
        self.record = (self.run / "run.db").read_bytes()
        self.saved = (self.run / "checkpoint.safetensors").read_bytes()
        self.checkpoint = checkpoint.read(self.run / "checkpoint.safetensors")
        self.model = (self.run / "model.safetensors").read_bytes()
        self.model_file = unsealed(self.run / "model.safetensors", MODEL, "")
        self._catch_loop()
        self._save_step()
        self._grid()
        rng = Rng(0)
        content = bytes(rng.choice(b"0123456789.,") for _ in range(600))  # that can be packed
        self.packed = {
            ".gz": gzip.compress(content), ".xz": lzma.compress(content, preset=0)
        }  # fmt: skip
        self.kernel = rng.randbytes(5000)
        self.kernels = folder / "kernels"
        self.kernels.mkdir(mode=0o700)
        self.prose = ("The cat sat on the mat, and nobody knew why it did. " * 8).encode()
        self.table = self._table(Rng(0), 40)
        os.environ["STEADYGRAD_DATA"] = str(folder)
        os.chdir(folder)

    def all(self) -> tuple[Reader, ...]:
        """All readers."""
        return (
            Reader("spec", self.spec, 0.32),
            Reader("packed data set", self.packed_set, 0.12),
            Reader("kernel in the cache", self.cached, 0.12),
            Reader("checkpoint, bytes", self.checkpoint_bytes, 0.12),
            Reader("checkpoint, facts and tensors", self.checkpoint_facts, 0.05),
            Reader("saved step", self.saved_step, 0.05),
            Reader("model file", self.model_bytes, 0.05),
            Reader("record", self.record_rows, 0.03),
            Reader("record, bytes", self.record_bytes, 0.02),
            Reader("table of results", self.results, 0.03),
            Reader("TOML", self.toml, 0.03),
            Reader("table", self.tables, 0.03),
            Reader("text", self.texts, 0.0295),
            Reader("arguments", self.arguments, 0.0005),
        )

    # ---- what is spoiled

    def _train(self) -> None:
        """A run that went back twice, and stopped before its end."""
        rows = np.sin(np.arange(300) / 3) + np.sin(np.arange(300) / 4.7)
        data = self.folder / "wave.csv"
        data.write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
        plain = Progress.learning_rate

        def wild(self: Progress, start: float) -> float:
            return plain(self, start) * (1e4 if self.step >= 20 else 1)

        with mock.patch.object(Progress, "learning_rate", wild):
            train(self._config(out=self.run, max_steps=50))

    def _config(self, **options: Any) -> TrainConfig:
        plain: dict[str, Any] = {
            "window": 12,
            "horizon": 2,
            "hidden": 4,
            "lag": "none",
            "budget": 0.0,
            "validate_every": 10,
            "rollbacks": 2,
            "threads": 1,
        }
        return TrainConfig(self.folder / "wave.csv", **(plain | options))

    def _catch_loop(self) -> None:
        """The loop and the watch of a training, into which checkpoints are restored."""
        caught: list[Any] = []

        def kept(loop: Loop, gradient: Gradient, interrupt: Interrupt, seen: Watch) -> Any:
            caught[:] = [loop, seen]
            loop.best = {k: v.clone() for k, v in loop.model.state_dict().items()}
            return "interrupted"

        with mock.patch.object(Loop, "run", kept):
            train(self._config(out=self.folder / "caught"))
        self.loop, self.watch = caught

    def _save_step(self) -> None:
        """A step that was not finite, as a watch saves it."""
        torch.manual_seed(0)
        model = torch.nn.LSTM(3, 4)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        where = self.folder / "steps"
        record = Record.create(where / "run.db", config={})
        with record, watch(model, optimizer, lag=9, every=1, record=record) as seen:
            for step in range(3):
                x = torch.randn(10, 2, 3)
                if step == 2:
                    x[4, 0, 0] = torch.nan
                loss = model(x)[0].square().mean()
                optimizer.zero_grad()
                loss.backward()
                seen.loss(loss.item())
                optimizer.step()
        (path,) = where.glob("*.safetensors")
        self.step = path.read_bytes()
        self.step_file = unsealed(path, black_box.FORMAT, "")

    def _grid(self) -> None:
        with Results(self.folder / "results.db") as results:
            for seed in range(2):
                trial = Trial("adding:length=20", "gru", seed=seed)
                result = {
                    "status": "unsolved", "updates": 4, "unit": "mse", "better": "lower",
                    "figures": {"mse": 0.2}, "curve": [[2, 0.3], [4, 0.2]], "seconds": 1.0,
                    "parameters": 100, "solved_at": None, "cpu_seconds": 1.0,
                    "gradient": {"start": {"horizon": 3}, "end": None},
                }  # fmt: skip
                results.add(trial.key, vars(trial), result)
        with contextlib.closing(sqlite3.connect(self.folder / "results.db")) as db:
            db.execute("PRAGMA journal_mode = DELETE")
        self.results_data = (self.folder / "results.db").read_bytes()

    @staticmethod
    def _table(rng: Rng, rows: int) -> bytes:
        header = rng.choice(("date,", "", "x,")) + "y"
        width = header.count(",") + 1
        cells = ("nan", "1", "", "2020-01-01", "x", "1e999", "-", "2020-13-45", "0x1", "1_0", "\0")
        lines = [
            ",".join(rng.choice(cells[:-6] * 6 + cells) for _ in range(width)) for _ in range(rows)
        ]
        return ("\n".join([header, *lines]) + "\n").encode()

    def _written(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    # ---- the draws

    def spec(self, rng: Rng) -> None:
        text = spoiled_text(rng.choice(SPECS), rng)
        for read_one in (
            parse, lambda t: read_spec(t, TASKS, "task"), lambda t: read_spec(t, CELLS, "cell")
        ):  # fmt: skip
            with contextlib.suppress(ValueError):
                read_one(text)

    def packed_set(self, rng: Rng) -> None:
        ending = rng.choice(sorted(self.packed))
        data = self.packed[ending]
        changed = spoiled(data, rng)
        if changed == data:
            return
        for other in self.packed:  # the first of them would be read
            (self.folder / f"set{other}").unlink(missing_ok=True)
        self._written(f"set{ending}", changed)
        try:
            read_file(DataFile("set", "0" * 64))
        except InputError:
            return
        raise Defect("a packed data set with another checksum was read")

    def cached(self, rng: Rng) -> None:
        for old in self.kernels.iterdir():
            old.unlink()
        key = rng.randbytes(16).hex()
        path = cache.place(self.kernels, key, self.kernel)
        changed = spoiled(self.kernel, rng)
        how = rng.random()
        if how < 0.8:
            path.write_bytes(changed)
        elif how < 0.9:  # another name for the same content
            name = spoiled_text(path.name, rng).replace("/", "-").replace("\0", "0")
            changed = self.kernel
            with contextlib.suppress(OSError, ValueError):
                path.rename(self.kernels / name)
        else:
            path.chmod(rng.choice((0o777, 0o720, 0o702)))
            if any(cache.find(self.kernels, key)):
                raise Defect(f"a kernel that others could write was taken: {path.stat().st_mode:o}")
            return
        for found in cache.find(self.kernels, key):
            if found.read_bytes() != self.kernel:
                raise Defect("a changed kernel was taken")

    def checkpoint_bytes(self, rng: Rng) -> None:
        changed = spoiled(self.saved, rng)
        path = self._written("spoiled.safetensors", changed)
        if _answered(lambda: checkpoint.read(path)) is not None and changed != self.saved:
            raise Defect("a changed checkpoint was read")

    def checkpoint_facts(self, rng: Rng) -> None:
        facts = dict(self.checkpoint.facts)
        tensors = dict(self.checkpoint.tensors)
        if rng.random() < 0.6:
            facts = mutated(facts, rng)
        else:
            name = rng.choice(sorted(tensors))
            if rng.random() < 0.3:
                del tensors[name]
            elif rng.random() < 0.2:
                tensors[spoiled_text(name, rng)] = tensors.pop(name)
            else:
                tensors[name] = spoiled_tensor(tensors[name], rng)
        if not isinstance(facts, dict):
            facts = {}
        path = self.folder / "caught" / "checkpoint.safetensors"
        try:
            data = sealed(tensors, {"format": checkpoint.FORMAT, **facts})
        except (UnicodeEncodeError, ValueError):  # cannot stand in a file
            return
        path.write_bytes(data)
        if rng.random() < 0.004:
            self._whole_training(path)
            return

        def restored() -> None:
            saved = checkpoint.read(path)
            facts_of(saved.facts, str(path))
            checkpoint.check_fits(path, saved, self.loop.model.state_dict())
            self.loop.restore(saved)
            self.loop.watch(self.watch)

        _answered(restored)

    def _whole_training(self, path: Path) -> None:
        out = self.folder / "whole"
        shutil.copytree(self.run, out, dirs_exist_ok=True)
        shutil.copy(path, out)
        steps = ["--max-steps", "52", "--validate-every", "10", "--rollbacks", "2"]
        clean(
            ["train", str(self.folder / "wave.csv"), "--out", str(out), "--resume", *QUICK, *steps]
        )

    def saved_step(self, rng: Rng) -> None:
        is_sealed = False
        if rng.random() < 0.5:
            data = spoiled(self.step, rng)
        else:  # well framed, wrong facts or tensors
            facts, tensors = dict(self.step_file.facts), dict(self.step_file.tensors)
            if rng.random() < 0.7:
                facts = mutated(facts, rng)
            else:
                name = rng.choice(sorted(tensors))
                tensors[name] = spoiled_tensor(tensors[name], rng)
            try:
                data = sealed(tensors, facts if isinstance(facts, dict) else {})
            except (UnicodeEncodeError, ValueError):
                return
            is_sealed = True
        path = self._written("nonfinite-3.safetensors", data)
        found = _answered(lambda: reproduce(path, torch.nn.LSTM(3, 4)))
        if found is not None and not is_sealed and data != self.step:
            raise Defect("a changed step was read")

    def model_bytes(self, rng: Rng) -> None:
        path = self.folder / "model.safetensors"
        if rng.random() < 0.5:
            changed = spoiled(self.model, rng)
            path.write_bytes(changed)
            if _answered(lambda: load(path)) is not None and changed != self.model:
                raise Defect("a changed model was read")
            return
        facts, tensors = dict(self.model_file.facts), dict(self.model_file.tensors)
        if rng.random() < 0.8:
            facts = mutated(facts, rng)
        else:
            name = rng.choice(sorted(tensors))
            tensors[name] = spoiled_tensor(tensors[name], rng)
        if not isinstance(facts, dict):
            return
        try:
            path.write_bytes(sealed(tensors, facts))
        except (UnicodeEncodeError, ValueError):
            return

        def used() -> None:
            model = load(path)
            assert isinstance(model, ForecastModel)
            model.forecast(self.folder / "wave.csv")

        _answered(used)

    def _read_record(self, path: Path, rng: Rng) -> None:
        def whole() -> None:
            with read(path) as run:
                for name in run.scalar_names():
                    run.scalars(name)
                run.events()
                run.findings()
                _ = run.notes, run.config
                check(run, None)

        _answered(whole)
        with contextlib.redirect_stdout(io.StringIO()):
            _answered(lambda: explain_run(path, rng.random() < 0.5))
        if rng.random() < 0.02:
            _answered(lambda: _page(path))
        if rng.random() < 0.2:
            _answered(lambda: Record.open(path).close())

    def _fresh_record(self, data: bytes) -> Path:
        for ending in ("", "-wal", "-shm", "-journal"):
            (self.folder / f"spoiled.db{ending}").unlink(missing_ok=True)
        return self._written("spoiled.db", data)

    def record_rows(self, rng: Rng) -> None:
        path = self._fresh_record(self.record)
        spoil_row(path, rng)
        self._read_record(path, rng)

    def record_bytes(self, rng: Rng) -> None:
        self._read_record(self._fresh_record(spoiled(self.record, rng)), rng)

    def results(self, rng: Rng) -> None:
        path = self._fresh_record(
            self.results_data if rng.random() < 0.7 else spoiled(self.results_data, rng)
        )
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            spoil_row(path, rng, ("result",))

        def used() -> None:
            with Results(path) as found:
                found.keys()
                grid_rows(found.rows())
                [read_back(trial).key for trial, _ in found.rows()]

        _answered(used)

    def toml(self, rng: Rng) -> None:
        text = spoiled_text(TOML, rng)
        path = self._written("grid.toml", text.encode("utf-8", "surrogatepass"))

        def used() -> None:
            tasks, options = bench_command._read(str(path), bench_command.BenchOptions())
            bench_command._grid(tasks, options).trials()

        _answered(used)

    def tables(self, rng: Rng) -> None:
        data = self._table(rng, rng.choice((0, 1, 2, 30, 120)))
        if rng.random() < 0.5:
            data = spoiled(data, rng)
        path = self._written("data.csv", data)
        _answered(lambda: read_forecast(path, None, 12, 2))

    def texts(self, rng: Rng) -> None:
        path = self._written("book.txt", spoiled(self.prose, rng))
        _answered(lambda: read_text(path, rng.choice(("char", "word"))))

    def arguments(self, rng: Rng) -> None:
        words = list(rng.choice(COMMANDS))
        place = rng.randrange(len(words))
        words[place] = spoiled_text(words[place], rng).replace("\ud800", "")
        if rng.random() < 0.2:
            words.append(rng.choice(("--max-steps", "-1", "--", "=", "nan", "--help", "9" * 400)))
        if words[0] in ("train", "bench"):  # parsed and checked, and not run
            words += ["--no-such-option"] if rng.random() < 0.1 else []
        with (
            mock.patch("steadygrad.train.run.Loop", side_effect=InputError("not run")),
            mock.patch("steadygrad.bench.run_grid", return_value=[]),
        ):
            clean(words, within=(0, 1, 2))


MODEL = "steadygrad model 1"


def _page(path: Path) -> None:
    with read(path) as run:
        html([run])


def spoil_row(path: Path, rng: Rng, tables: tuple[str, ...] = TABLES) -> None:
    """Replace one value of one row of a record, or something inside the JSON that it holds."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        # The part of a record that is read back as JSON is drawn more often.
        table = rng.choice((*tables, *(t for t in tables if t in ("note", "event", "finding"))))
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
        if not rows:
            return
        row, place = rng.choice(rows), rng.randrange(len(columns))
        new = rng.choice(SQL_VALUES)
        if isinstance(row[place], str) and row[place][:1] in '{["' and rng.random() < 0.8:
            with contextlib.suppress(ValueError):
                new = json.dumps(mutated(json.loads(row[place]), rng))
        where = " AND ".join(f"{name} IS ?" for name in columns)
        with contextlib.suppress(sqlite3.Error):
            db.execute(f"UPDATE {table} SET {columns[place]} = ? WHERE {where}", (new, *row))
        db.commit()


def clean(arguments: list[str], *, within: tuple[int, ...] = (0, 1, 2)) -> None:
    """Run a command in this process: an exit code, at most one line of trouble, no exception."""
    out, trouble = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(trouble):
        code = main(arguments)
    said = trouble.getvalue()
    if code not in within or "Traceback" in said:
        raise Defect(f"{arguments!r:.200}: exit code {code}: {said[-500:]}")
    if (
        code == 2
        and said.startswith("steadygrad: ")
        and (said.count("\n") != 1 or len(said) > 3000)
    ):
        raise Defect(f"{arguments!r:.200}: more than one line: {said[:500]}")


@contextlib.contextmanager
def limited(seconds: int = HANGS) -> Iterator[None]:
    """Raise in the midst of what takes longer."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise Defect(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
