"""Tasks made of data sets and of equations: read right, cut right, and damage is named."""

import csv
import gzip
import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from steadygrad.bench import Trial, run_trial
from steadygrad.errors import InputError
from steadygrad.spec import read_spec
from steadygrad.tasks import TASKS, Benchmark, Split
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.mackey_glass import mackey_glass
from steadygrad.tasks.narma import narma

DATA = os.environ.get("STEADYGRAD_DATA", "")
needs_data = pytest.mark.skipif(not DATA, reason="STEADYGRAD_DATA is not set: no real data here")
PARTS: tuple[Split, ...] = ("train", "val", "test")
FROM_DATA = [
    "mnist", "mnist:permuted=true", "mnist:pool=4", "mnist:images=100", "chorales",
    "series-classes", "series-classes:problem=GunPoint", "series-classes:problem=JapaneseVowels",
    "system-id", "system-id:window=100", "system-id:washout=10", "system-id:system=tanks",
    "system-id:system=exchanger", "system-id:system=buck",
]  # fmt: skip
DRAWN = [
    "narma",
    "narma:washout=20",
    "mackey-glass",
    "mackey-glass:horizon=20",
    "mackey-glass:tau=30",
]


def made(spec: str) -> Benchmark:
    return read_spec(spec, TASKS, "task")


@pytest.fixture(params=[*DRAWN, *(pytest.param(s, marks=needs_data) for s in FROM_DATA)])
def task(request: pytest.FixtureRequest) -> Benchmark:
    return made(request.param)


def test_shapes_sizes_and_order(task: Benchmark) -> None:
    for split in PARTS:
        batch = task.batches(split, 6, (0, 0) if split == "train" else None)[0]
        steps, rows, features = batch.inputs.shape
        assert features == task.input_size and batch.inputs.isfinite().all()
        outputs = torch.zeros(*((steps,) if task.every_step else ()), rows, task.output_size)
        assert task.loss(outputs, batch.targets).isfinite()
        assert set(task.figures(task.tally(outputs, batch.targets))) == set(task.better)
    first, again, other = (task.batches("train", 6, s)[0] for s in ((0, 0), (0, 0), (0, 1)))
    assert torch.equal(first.inputs, again.inputs)
    assert first.inputs.shape != other.inputs.shape or not torch.equal(first.inputs, other.inputs)


def test_parts_share_nothing(task: Benchmark) -> None:
    seen = {}
    for split in PARTS:
        batches = task.batches(split, 50)
        kept = [batches[i] for i in range(min(len(batches), 3))]
        seen[split] = {row.numpy().tobytes() for b in kept for row in b.inputs.transpose(0, 1)}
    assert not seen["train"] & seen["val"] and not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_without_memory_is_what_the_mean_or_the_commonest_scores(task: Benchmark) -> None:
    batches = list(task.batches("test", 250))
    figures = []
    for constant in [0.0] if task.every_step else range(task.output_size):
        if task.every_step and task.name == "chorales":
            return  # frequencies are not constant over notes; checked below
        tallies = []
        for b in batches:
            shape = (
                (*b.targets.shape[:1], b.inputs.shape[1]) if task.every_step else b.targets.shape
            )
            out = torch.zeros(*shape, task.output_size)
            if task.every_step:
                asked = torch.cat([x.targets[~x.targets.isnan()] for x in batches])
                out += 0.0 if task.name == "system-id" else float(asked.mean())
            else:
                out[..., int(constant)] = 1.0
            tallies.append(task.tally(out, b.targets))
        figures.append(task.figures(torch.stack(tallies).sum(0))[task.deciding])
    expected = task.no_memory[task.deciding]
    assert min(abs(f - expected) for f in figures) < 0.01 * expected


@needs_data
def test_chorales_are_the_published_ones() -> None:
    task = made("chorales")
    frames = {}
    for split in PARTS:
        batches = list(task.batches(split, 10))
        asked = sum(int((~b.targets[..., 0].isnan()).sum()) for b in batches)
        frames[split] = asked + sum(b.inputs.shape[1] for b in batches)  # the first is not foretold
    assert frames == {"train": 13_807, "val": 4_602, "test": 4_725}
    raw = json.loads((Path(DATA) / "jsb_chorales/jsb-chorales-quarter.json").read_text())
    first = task.batches("train", 1)[0]
    notes = [(f.nonzero().flatten() + 21).tolist() for f in first.inputs[:, 0]]
    assert notes == [sorted(chord) for chord in raw["train"][0][:-1]]


@needs_data
def test_digits_are_shown_pixel_by_pixel() -> None:
    task = made("mnist")
    batch = task.batches("test", 4)[0]
    assert batch.targets.tolist() == [7, 2, 1, 0]  # the first labels of the test set
    raw = gzip.decompress((Path(DATA) / "mnist/t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert (batch.inputs[:, 1, 0] * 255).round().int().tolist() == list(raw[784 : 2 * 784])
    mixed = made("mnist:permuted=true").batches("test", 4)[0]
    assert not torch.equal(mixed.inputs, batch.inputs)
    assert torch.equal(mixed.inputs.sort(0).values, batch.inputs.sort(0).values)
    small = made("mnist:pool=2").batches("test", 4)[0]
    assert small.inputs.shape[0] == 196
    assert small.inputs.mean() == pytest.approx(float(batch.inputs.mean()), rel=1e-5)
    assert sum(len(b.targets) for b in made("mnist:images=130").batches("train", 50)) == 130


@needs_data
def test_silverbox_is_aligned_and_tested_on_the_arrow() -> None:
    with (Path(DATA) / "silverbox/SNLS80mV.csv").open() as file:
        rows = [[float(v) for v in row[:2]] for row in list(csv.reader(file))[1:] if row]
    u, y = np.array(rows).T
    task = made("system-id")
    batch = task.batches("test", 1)[0]
    train, arrow = slice(40_650, 89_446), slice(100, 40_575)
    assert batch.inputs.shape[0] == 40_475
    np.testing.assert_allclose(
        batch.inputs[:, 0, 0], (u[arrow] - u[train].mean()) / u[train].std(), atol=1e-3
    )
    assert batch.targets[:50].isnan().all() and not batch.targets[50:].isnan().any()
    error = torch.full_like(batch.targets, 0.0)
    rmse = task.figures(task.tally(error, batch.targets))["RMSE"]
    assert rmse == pytest.approx(np.sqrt(np.mean((y[150:40_575] - y[train].mean()) ** 2)), rel=1e-4)


@needs_data
def test_series_end_with_their_own_last_value() -> None:
    text = (Path(DATA) / "ucr_uea/JapaneseVowels_TRAIN.ts").read_text()
    row = text.split("@data\n")[1].splitlines()[0].split(":")
    first = np.array([[float(v) for v in c.split(",")] for c in row[:-1]]).T
    batch = made("series-classes:problem=JapaneseVowels").batches("train", 2)[0]
    length = len(first)
    assert (batch.inputs[:-length, 0] == 0).all() and batch.inputs[-length, 0].abs().sum() > 0
    back = np.corrcoef(batch.inputs[-length:, 0, 3].numpy(), first[:, 3])[0, 1]
    assert back == pytest.approx(1.0, abs=1e-6)
    assert batch.targets[0] == int(row[-1]) - 1
    basic = made("series-classes").batches("test", 100)[0]
    assert basic.targets.bincount().tolist() == [10, 10, 10, 10]


def test_narma_follows_its_recursion() -> None:
    u = (0.5 * torch.rand(40, 1, generator=torch.Generator().manual_seed(0))).double()
    y = [0.0]
    for t in range(40):
        past = sum(y[max(0, t - 9) : t + 1])
        old = float(u[t - 9]) if t >= 9 else 0.0
        y.append(0.3 * y[t] + 0.05 * y[t] * past + 1.5 * old * float(u[t]) + 0.1)
    np.testing.assert_allclose(narma(u.float())[:, 0], y[1:], rtol=1e-5)


def test_mackey_glass_solves_its_equation() -> None:
    """An Euler solver in steps of a thousandth goes the same way for a hundred units of time."""
    x = mackey_glass(17).double().numpy()
    fine, tau = 1000, 17
    path = np.interp(np.arange((tau + 1) * fine) / fine, np.arange(tau + 1), x[: tau + 1])
    path = list(path[: tau * fine + 1])
    for _ in range(20 * fine):
        old = path[-1 - tau * fine]
        path.append(path[-1] + (0.2 * old / (1 + old**10) - 0.1 * path[-1]) / fine)
    told = np.array(path)[::fine][tau : tau + 20]
    np.testing.assert_allclose(told, x[tau : tau + 20], atol=5e-3)


@needs_data
@pytest.mark.parametrize(
    "spec",
    [
        "series-classes:problem=ItalyPowerDemand",
        pytest.param("system-id:system=tanks", marks=pytest.mark.slow),
    ],
)
def test_a_trial_runs_on_data(spec: str) -> None:
    result = run_trial(
        Trial(spec, "gru", hidden=8, updates=100, validate_every=20, learning_rate=0.01)
    )
    assert result["status"] == "unsolved" and "text" not in result
    assert result["figures"][result["unit"]] < result["without_memory"]


# ---- finding files ----------------------------------------------------------------------------


CONTENT = b"some data"
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEADYGRAD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.bin").write_bytes(CONTENT)
    (tmp_path / "home" / "a.bin.gz").write_bytes(gzip.compress(CONTENT))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    def handler(*args: object) -> Quiet:
        return Quiet(*args, directory=str(tmp_path / "home"))  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_file_is_found_fetched_once_and_checked(folders: Path, server: str) -> None:
    file = DataFile("set/a.bin", SUM, f"{server}/a.bin")
    assert read_file(file) == CONTENT
    assert (folders / "cache/steadygrad/data/set/a.bin").read_bytes() == CONTENT
    assert read_file(DataFile("set/a.bin", SUM, "http://127.0.0.1:9/nobody")) == CONTENT
    packed = DataFile("set/a.bin.gz", SUM, f"{server}/a.bin.gz")
    assert read_file(packed) == CONTENT and read_file(packed) == CONTENT
    (folders / "data/set").mkdir(parents=True)
    (folders / "data/set/a.bin").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"a\.bin: is damaged or another version"):
        read_file(file)
    (folders / "data/set/a.bin.gz").write_bytes(gzip.compress(CONTENT)[:-4])
    with pytest.raises(InputError, match="cannot be read"):
        read_file(packed)


def test_a_file_that_is_nowhere_is_named_with_what_to_do(folders: Path, server: str) -> None:
    for home, hint, message in (
        ("", "", r"data set set: no set/b\.bin below .*; put it there, or set STEADYGRAD_DATA"),
        ("", "ask the author", "; ask the author"),
        (f"{server}/b.bin", "", r"and fetching http.*b\.bin failed"),
        ("http://127.0.0.1:9/b.bin", "", "and fetching http.* failed"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_file(DataFile("set/b.bin", SUM, home, hint))
        assert "\n" not in str(caught.value)
    left = [p for p in (folders / "cache").rglob("*") if p.is_file()]
    assert not left
