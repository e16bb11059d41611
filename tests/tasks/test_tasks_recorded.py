"""Texts, series, strokes and printed lines as benchmarks: read right, and judged by counting."""

import csv
import itertools
import lzma
import math
import os
import sys
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from steadygrad.bench import Trial, run_trial
from steadygrad.bench.trial import score
from steadygrad.errors import InputError
from steadygrad.spec import read_spec, write_spec
from steadygrad.tasks import TASKS, Adding, Benchmark, LanguageModel, OCRLines, Split
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.labelled import nearest_neighbour
from steadygrad.tasks.ngrams import Ngrams, witten_bell
from steadygrad.tasks.ocr_lines import alphabet, edits, read
from steadygrad.tasks.strokes import resampled
from steadygrad.train.image_model import ImageModel
from steadygrad.train.model import SequenceModel

DATA = os.environ.get("STEADYGRAD_DATA", "")
needs_data = pytest.mark.skipif(not DATA, reason="STEADYGRAD_DATA is not set: no real data here")
PARTS: tuple[Split, ...] = ("train", "val", "test")
RECORDED = [
    "language-model", "language-model:symbol=word", "language-model:window=20", "forecast",
    "forecast:series=sunspots", "forecast:series=passengers", "forecast:series=shampoo",
    "forecast:series=temperatures,horizon=3", "forecast:series=sunspots,window=9", "strokes",
    "strokes:alphabet=greek", "strokes:length=20", "ocr-lines", "ocr-lines:height=12",
    "series-classes", "system-id", "chorales", "digits",
]  # fmt: skip


@cache
def made(spec: str) -> Benchmark:
    return read_spec(spec, TASKS, "task")


@needs_data
@pytest.mark.parametrize("spec", RECORDED)
def test_shapes_scores_and_order(spec: str) -> None:
    task = made(spec)
    assert read_spec(write_spec(task.name, task), TASKS, "task") == task
    for split in PARTS:
        batch = task.batches(split, 3, (0, 0) if split == "train" else None)[0]
        steps, rows = batch.inputs.shape[:2]
        assert rows <= 3
        if task.input_kind == "values":
            assert batch.inputs.shape[2] == task.input_size and batch.inputs.isfinite().all()
        else:
            assert int(batch.inputs.max()) < task.input_size
        outputs = torch.zeros(*((steps,) if task.every_step else ()), rows, task.output_size)
        assert task.loss(outputs, batch.targets).isfinite()
        assert set(task.figures(task.tally(outputs, batch.targets))) == set(task.better)
    first, again = (task.batches("train", 3, (0, 0))[0] for _ in range(2))
    others = [task.batches("train", 3, (seed, 1))[0] for seed in range(3)]
    assert torch.equal(first.inputs, again.inputs)
    # A text of one row has no other order; windows of a text begin elsewhere.
    assert any(
        o.inputs.shape != first.inputs.shape or not torch.equal(o.inputs, first.inputs)
        for o in others
    ) or spec.endswith("shampoo")


@needs_data
@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_what_is_trivial_and_what_is_solved(name: str) -> None:
    task = made(name)
    unit, bound = task.solved_if or pytest.fail(f"{name}: no score at which it is solved")
    naive = [s.value for s in task.naive("test") if s.unit == unit]
    trivial = dict(task.no_memory)
    assert trivial and set(trivial) <= set(task.better) and math.isfinite(bound)
    worst = 1e9 if task.better[unit] == "lower" else -1.0
    assert not task.solved(dict.fromkeys(task.better, worst))
    assert task.solved({unit: 0.0 if task.better[unit] == "lower" else 100.0})
    assert all(not task.solved({unit: value}) for value in naive)  # none of them solves it
    lag = task.required_lag
    assert lag is None or 0 < lag < task.time_steps


# ---- language models ----------------------------------------------------------------------------


@needs_data
def test_texts_are_the_published_ones() -> None:
    """Symbols by part as Mikolov et al. and every later paper count them; sizes of Karpathy's."""
    counts = {}
    for spec in ("language-model:corpus=ptb,symbol=word", "language-model:corpus=ptb"):
        text = read_spec(spec, {"language-model": LanguageModel}, "task").text
        counts[text.symbol] = (len(text.vocabulary), [len(text.part(s)) for s in PARTS])
        assert not text.notes  # no word is unknown, beyond those that the corpus says are
    assert counts["word"] == (10_000, [929_589, 73_760, 82_430])
    assert counts["char"] == (50, [5_017_483, 393_043, 442_424])
    shakespeare = LanguageModel().text
    assert (len(shakespeare.codes), len(shakespeare.vocabulary)) == (1_115_394, 65)


@needs_data
def test_state_is_carried_from_window_to_window() -> None:
    """Windows with the state carried score as one pass over the whole rows does."""
    torch.manual_seed(0)
    whole, cut = LanguageModel(window=1500), LanguageModel(window=50)
    model = SequenceModel(whole, "gru", 8)
    batches = list(whole.text.batches("val", 10**6))
    rows = batches[0].inputs.shape[1]
    inputs = torch.cat([b.inputs for b in batches])
    with torch.no_grad():
        hidden, _ = model(inputs)
    expected = whole.figures(whole.tally(hidden, torch.cat([b.targets for b in batches])))

    class Rows(LanguageModel):  # type: ignore[misc]
        def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None):  # type: ignore[no-untyped-def]
            return super().batches(split, rows, shuffle)

    found = score(Rows(window=50), model, "val")
    assert rows < 250 and found == pytest.approx(expected, rel=1e-5)
    dropped = score(_Forgetful(window=50), model, "val")
    assert dropped != pytest.approx(expected, rel=1e-5)
    assert cut.text.window == 50


class _Forgetful(LanguageModel):  # type: ignore[misc]
    """A text whose windows say that they begin anew."""

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None):  # type: ignore[no-untyped-def]
        return [type(b)(b.inputs, b.targets) for b in super().batches(split, size, shuffle)]


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat on the mat\n" * 200)
    task = read_spec(f"language-model:file={tmp_path / 'a.txt'},symbol=word", TASKS, "task")
    assert task.input_size == 5 and isinstance(task, LanguageModel)
    with pytest.raises(InputError, match="no such file"):
        LanguageModel(file=str(tmp_path / "b.txt")).facts()


def test_longer_counts_are_those_of_the_formula() -> None:
    """The recursion written a second time, symbol by symbol, with dictionaries."""
    rng = np.random.default_rng(0)
    train, codes, size = rng.integers(0, 4, 300), rng.integers(0, 5, 60), 5
    text = [*train.tolist(), *codes.tolist()]

    def p(b: int, context: tuple[int, ...], order: int) -> float:
        if order == 1:
            return (train.tolist().count(b) + 1) / (len(train) + size)
        ends = [t for t in range(order - 1, 300) if tuple(text[t - order + 1 : t]) == context]
        seen = Counter(text[t] for t in ends)
        lower = p(b, context[1:], order - 1)
        if not ends:
            return lower
        return (seen[b] + len(seen) * lower) / (len(ends) + len(seen))

    for order in (1, 2, 4):
        bits = [
            -math.log2(p(text[t], tuple(text[t - order + 1 : t]), order))
            for t in range(301, len(text))
        ]
        assert witten_bell(train, codes, order, size).mean() == pytest.approx(
            np.mean(bits), rel=0.01
        )
    pair = Ngrams(train, size).score(codes[:-1], codes[1:])
    assert witten_bell(train, codes, 1, size).mean() == pytest.approx(pair["unigram"][0])
    assert witten_bell(train, codes, 2, size).mean() == pytest.approx(pair["bigram"][0], rel=1e-3)


# ---- forecasts ----------------------------------------------------------------------------------


@needs_data
def test_the_last_value_errs_as_the_file_says() -> None:
    with (Path(DATA) / "small_series/monthly-sunspots.csv").open() as file:
        y = np.array([float(row["Sunspots"]) for row in csv.DictReader(file)])
    rows, horizon = len(y), 12
    last = np.arange(rows * 8 // 10 - 1, rows - horizon)
    ahead = y[last[:, None] + np.arange(1, horizon + 1)]
    rmse = np.sqrt(np.mean((ahead - y[last][:, None]) ** 2))
    task = made("forecast:series=sunspots")
    assert task.output_size == horizon
    assert task.no_memory["RMSE"] == pytest.approx(rmse, rel=0.01)
    answers = {s.name: s.value for s in task.naive("test") if s.unit == "RMSE"}
    assert task.solved_if == ("RMSE", min(answers.values()))
    assert min(answers.values()) < task.no_memory["RMSE"]  # ridge on the window is better


# ---- strokes ------------------------------------------------------------------------------------


def test_points_are_evenly_spaced_and_strokes_marked() -> None:
    ell = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]])
    dash = np.array([[50.0, 50.0], [60.0, 50.0]])
    points = resampled([ell, dash], 83)
    assert points.shape == (83, 3) and points[:, 2].nonzero()[0].tolist() == [0, 71]
    steps = np.linalg.norm(np.diff(points[:71, :2], axis=0), axis=1)
    steps = np.delete(steps, steps.argmin())  # the one that is cut short at the corner
    np.testing.assert_allclose(steps, steps[0], rtol=0.05)
    np.testing.assert_allclose(points[:, :2].mean(0), 0, atol=1e-9)
    assert points[:, :2].std(0).max() == pytest.approx(1)
    moved = resampled([2 * ell + 7, 2 * dash + 7], 83)
    np.testing.assert_allclose(moved[:70, :2], points[:70, :2], atol=0.05)
    assert np.isfinite(resampled([np.array([[3.0, 3.0]])], 5)).all()  # a dot


@needs_data
def test_every_drawing_is_in_one_part() -> None:
    with zipfile.ZipFile(Path(DATA) / "omniglot/strokes_background_small1.zip") as packed:
        drawings = [n for n in packed.namelist() if n.endswith(".txt") and n.count("/") == 3]
    task = made("strokes")
    sizes = [sum(b.inputs.shape[1] for b in task.batches(s, 100)) for s in PARTS]
    assert sum(sizes) == len(drawings) == 2720 and sizes == [136 * 14, 136 * 3, 136 * 3]
    assert task.output_size == 136 and task.no_memory["% wrong"] == pytest.approx(100 * 135 / 136)


def test_the_nearest_neighbour_is_the_nearest() -> None:
    x = torch.randn(20, 3, 2, generator=torch.Generator().manual_seed(0))
    y = torch.arange(20) % 4
    assert nearest_neighbour((x, y), (x, y)) == 0
    asked = torch.randn(10, 3, 2, generator=torch.Generator().manual_seed(1))
    wrong = sum(
        int(y[min(range(20), key=lambda i, b=b: float((x[i] - b).square().sum()))] != 0)
        for b in asked
    )
    assert nearest_neighbour((x, y), (asked, torch.zeros(10).long())) == 100 * wrong / 10


# ---- printed lines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said, wanted, distance",
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("a", "a", 0)],
)
def test_edits_are_counted(said: str, wanted: str, distance: int) -> None:
    """Textbook distances of Levenshtein (Wagner and Fischer, 1974)."""
    assert edits([*map(ord, said)], [*map(ord, wanted)]) == distance


def lines(columns: list[int], codes: list[list[int]]) -> Tensor:
    longest = max(map(len, codes))
    padded = [c + [0] * (longest - len(c)) for c in codes]
    return torch.cat([torch.tensor(columns)[:, None], torch.tensor(padded)], 1)


def test_the_loss_sums_over_all_ways_to_place_the_text() -> None:
    """Every labelling of five columns written out; those that read as the text are summed."""
    outputs = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
    targets = lines([5, 3], [[1, 1], [2]])
    p = outputs.softmax(-1).double()
    nats = 0.0
    for row, (columns, wanted) in enumerate([(5, [1, 1]), (3, [2])]):
        ways = itertools.product(range(4), repeat=columns)
        total = sum(
            math.prod(p[t, row, k].item() for t, k in enumerate(way))
            for way in ways
            if read(torch.tensor(way)) == wanted
        )
        nats -= math.log(total)
    task = OCRLines()
    assert task.loss(outputs, targets).item() == pytest.approx(nats / 3, rel=1e-5)
    beyond = outputs.clone()
    beyond[3:, 1] = 50.0  # white after the end of the second line
    assert torch.equal(task.tally(beyond, targets), task.tally(outputs, targets))


@needs_data
def test_a_reader_without_error_scores_nothing_wrong() -> None:
    task = made("ocr-lines")
    batch = task.batches("test", 5)[0]
    codes, steps = batch.targets[:, 1:], len(batch.inputs)
    outputs = torch.zeros(steps // 2, 5, task.output_size)  # a column for two of the image
    for row in range(5):
        for t, code in enumerate(codes[row][codes[row] > 0].tolist()):
            outputs[2 * t, row, code] = 50.0
    outputs[..., 0] += 25.0
    assert task.figures(task.tally(outputs, batch.targets))["% characters wrong"] == 0
    nothing = torch.zeros_like(outputs)
    nothing[..., 0] = 1.0
    assert task.figures(task.tally(nothing, batch.targets))["% characters wrong"] == 100
    tenth = sorted((Path(DATA) / "ocr_lines/train").glob("*.gt.txt"))[9]
    wanted = tenth.read_text().rstrip("\n")
    said = "".join(alphabet()[c - 1] for c in codes[0].tolist() if c)
    assert said == wanted and 0 < batch.inputs.mean() < 0.5


@needs_data
def test_an_image_is_read_by_a_recurrence_in_two_dimensions() -> None:
    task = made("ocr-lines:height=12")
    torch.manual_seed(0)
    model = ImageModel(task, "md-lstm:cell=stable,rows=3,columns=4", 3)
    batch = task.batches("val", 2)[0]
    outputs, _ = model(batch.inputs)
    assert outputs.shape == (-(-len(batch.inputs) // 4), 2, task.output_size)
    # Ink further on is seen: a sequence of columns would know nothing of it yet.
    changed = batch.inputs.clone()
    changed[10, :, -1] += 1
    assert not torch.equal(model(changed)[0][0], outputs[0])
    one = ImageModel(task, "md-lstm:directions=1", 3)
    assert torch.equal(one(changed)[0][0], one(batch.inputs)[0][0])
    cells = ("md-lstm:rows=6,columns=8", "md-lstm:rows=6,columns=8,cell=leaky")
    found = [
        run_trial(Trial("ocr-lines:height=12", c, hidden=2, updates=2, batch_size=2)) for c in cells
    ]
    assert [r["status"] for r in found] == ["unsolved"] * 2, [r.get("text") for r in found]
    assert found[0]["figures"] != found[1]["figures"]


@pytest.mark.parametrize(
    "cell, layers, message",
    [
        ("md-lstm", 1, "reads images, and this task has none"),
        ("md-lstm:cell=x", 1, "reads images"),
        ("md-lstm", 2, "layers 2: md-lstm has one"),
    ],
)
def test_an_image_cell_without_images_is_refused(cell: str, layers: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trial("adding", cell, layers=layers).check()
    assert not Adding.is_image


@needs_data
def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"pip install 'steadygrad\[images\]'"):
        OCRLines(height=77).batches("val", 1)


# ---- files --------------------------------------------------------------------------------------


def test_packed_files_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEADYGRAD_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sha256 = "916f0027a575074ce72a331777c3478d6513f786a591bd892da1a577bf2335f9"  # of "test data"
    file = DataFile("set/a.txt", sha256)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt.xz").write_bytes(lzma.compress(b"test data"))
    assert read_file(file) == b"test data"
    (tmp_path / "set" / "a.txt.xz").write_bytes(lzma.compress(b"test data")[:-9])
    with pytest.raises(InputError, match=r"a\.txt\.xz: cannot be read"):
        read_file(file)
    (tmp_path / "set" / "a.txt.xz").write_bytes(lzma.compress(b"other data"))
    with pytest.raises(InputError, match=r"a\.txt\.xz: is damaged or another version"):
        read_file(file)


@pytest.mark.parametrize("name", ["language-model", "forecast", "strokes", "ocr-lines"])
def test_data_that_are_not_there_are_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import steadygrad.tasks.datasets as datasets

    def nothing(*args: object, **more: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("STEADYGRAD_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.urllib.request, "urlopen", nothing)
    options = {"language-model": ":window=7", "forecast": ":horizon=5", "strokes": ":length=9"}
    task = read_spec(name + options.get(name, ":height=9"), TASKS, "task")
    with pytest.raises(InputError, match=r"data set \w+: no .* below .*fetching http") as caught:
        task.batches("test", 2)
    assert "\n" not in str(caught.value)
