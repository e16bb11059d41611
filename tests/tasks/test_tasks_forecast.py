"""A forecast sees only the past, learns only from the training part, and scores what is asked."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from steadygrad.tasks import Batch, Forecast, Split, read_forecast
from steadygrad.tasks.base import Margin

ROWS, WINDOW, HORIZON = 300, 7, 3
RNG = np.random.default_rng(1)
A = np.cumsum(RNG.normal(size=ROWS))
B = 5 + np.sin(np.arange(ROWS) / 3) + 0.1 * RNG.normal(size=ROWS)
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def write(path: Path, columns: dict[str, list[str]], delimiter: str = ",") -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(delimiter.join(row) for row in [columns.keys(), *rows]) + "\n")
    return path


def text(values: np.ndarray) -> list[str]:
    return [repr(float(v)) for v in values]


def whole(task: Forecast, split: Split, size: int = 16) -> Batch:
    batches = list(task.batches(split, size))
    inputs = torch.cat([b.inputs for b in batches], dim=1)
    return Batch(inputs, torch.cat([b.targets for b in batches]))


def make(path: Path, **columns: np.ndarray) -> Forecast:
    write(path, {name: text(values) for name, values in columns.items()})
    return read_forecast(path, window=WINDOW, horizon=HORIZON)


@pytest.fixture
def task(tmp_path: Path) -> Forecast:
    return make(tmp_path / "a.csv", a=A, b=B)


def test_shapes_and_split(task: Forecast) -> None:
    batch = task.batches("train", 16)[0]
    assert batch.inputs.shape == (WINDOW, 16, 2)
    assert batch.targets.shape == (16, HORIZON + 1)
    targets = {s: task.origins(s)[:, None] + np.arange(1, HORIZON + 1) for s in SPLITS}
    assert targets["train"].min() == WINDOW and targets["train"].max() == 209
    assert targets["val"].min() == 210 and targets["val"].max() == 239
    assert targets["test"].min() == 240 and targets["test"].max() == 299


def test_inputs_and_targets_against_the_table(task: Forecast) -> None:
    mean, deviation = [f(np.stack([A, B])[:, :210], axis=1) for f in (np.mean, np.std)]
    batch = whole(task, "test")
    squares = [np.mean((B[k:210] - B[: 210 - k]) ** 2) for k in (1, 2, 3)]
    assert task.scale == pytest.approx(np.sqrt(np.mean(squares)))
    for number, origin in enumerate(task.origins("test")):
        rows = np.stack([A, B], axis=1)[origin - WINDOW + 1 : origin + 1]
        expected = torch.from_numpy((rows - mean) / deviation).float()
        torch.testing.assert_close(batch.inputs[:, number], expected)
        after = (B[origin + 1 : origin + 1 + HORIZON] - B[origin]) / task.scale
        torch.testing.assert_close(batch.targets[number, :-1], torch.from_numpy(after).float())


def test_the_past_does_not_see_the_future(tmp_path: Path, task: Forecast) -> None:
    later = make(tmp_path / "b.csv", a=np.where(np.arange(ROWS) < 240, A, 99.0), b=B)
    for split in ("train", "val"):
        torch.testing.assert_close(whole(later, split).inputs, whole(task, split).inputs)
    origin = 250
    changed = B.copy()
    changed[origin + 1 :] += 7
    moved = make(tmp_path / "c.csv", a=A, b=changed)
    seen = [o for o in task.origins("test") if o <= origin]
    ours, theirs = whole(moved, "test").inputs, whole(task, "test").inputs
    torch.testing.assert_close(ours[:, : len(seen)], theirs[:, : len(seen)])
    assert not torch.equal(ours, theirs)


def test_an_epoch_shows_every_window_once_in_an_order_of_its_own(task: Forecast) -> None:
    plain = whole(task, "train").targets
    orders = [
        torch.cat([b.targets for b in task.batches("train", 16, shuffle)])
        for shuffle in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    torch.testing.assert_close(orders[0], orders[1], rtol=0, atol=0)
    assert not torch.equal(orders[0], orders[2]) and not torch.equal(orders[0], orders[3])
    for order in orders:
        torch.testing.assert_close(
            torch.unique(order, dim=0), torch.unique(plain, dim=0), rtol=0, atol=0
        )


def test_figures_and_naive_answers_against_slow_loops(task: Forecast) -> None:
    period = task.period
    assert period == 19  # 2 pi 3 = 18.85
    errors: dict[str, list[float]] = {"last": [], "seasonal": [], "mean": []}
    for origin in task.origins("test"):
        for ahead in range(1, HORIZON + 1):
            truth = B[origin + ahead]
            back = origin + ahead - period
            errors["last"].append(float(B[origin] - truth))
            errors["seasonal"].append(float(B[back] - truth))
            errors["mean"].append(float(B[:210].mean() - truth))
    scores = {(s.name.split()[0].strip(","), s.unit): s.value for s in task.naive("test")}
    names = {"last": "last", "seasonal": "seasonal", "mean": "training"}
    for ours, theirs in names.items():
        e = np.array(errors[ours])
        assert scores[theirs, "RMSE"] == pytest.approx(np.sqrt(np.mean(e**2)), rel=1e-5)
        assert scores[theirs, "MAE"] == pytest.approx(np.mean(np.abs(e)), rel=1e-5)


def test_zero_output_is_the_last_value_answer(task: Forecast) -> None:
    batch = whole(task, "test")
    figures = task.figures(task.tally(torch.zeros(len(batch.targets), HORIZON), batch.targets))
    last = {s.unit: s.value for s in task.naive("test") if s.name == "last value"}
    assert figures == pytest.approx(last, rel=1e-5)


def test_a_drifting_target_is_seen_relative_to_the_last_row(tmp_path: Path) -> None:
    climb = 0.2 * np.arange(ROWS) + np.sin(np.arange(ROWS))
    task = make(tmp_path / "a.csv", b=B, climb=climb)
    assert task.drifts and any("drifts" in note for note in task.notes)
    batch = whole(task, "test")
    torch.testing.assert_close(batch.inputs[-1], torch.zeros_like(batch.inputs[-1]))
    shifted = make(tmp_path / "b.csv", b=B, climb=np.where(np.arange(ROWS) < 240, climb, climb + 9))
    inside = int(np.flatnonzero(task.origins("test") - WINDOW >= 240)[0])
    theirs = whole(shifted, "test")
    torch.testing.assert_close(theirs.inputs[:, inside:], batch.inputs[:, inside:])
    torch.testing.assert_close(
        theirs.targets[inside:], batch.targets[inside:], rtol=1e-4, atol=1e-5
    )
    for number, origin in enumerate(task.origins("test")):
        seen = climb[origin - WINDOW + 1 : origin + 1].std() / task.scale
        assert batch.targets[number, -1].item() == pytest.approx(max(seen, 0.1), rel=1e-5)


def test_gaps_are_filled_forward_and_not_scored(tmp_path: Path) -> None:
    cells = text(B)
    for row, missing in {0: "", 50: "NA", 51: "?", 120: "inf", 260: "NaN", 261: "null"}.items():
        cells[row] = missing
    write(tmp_path / "a.csv", {"a": text(A), "b": cells})
    task = read_forecast(tmp_path / "a.csv", window=WINDOW, horizon=HORIZON)
    filled = task.y.numpy()
    assert filled[50] == filled[51] == B[49] and filled[120] == B[119]
    assert filled[260] == filled[261] == B[259] and filled[0] == B[1]
    assert "column 'b': 5 missing and 1 infinite values filled forward" in task.notes
    assert "6 missing targets are neither learnt nor scored" in task.notes
    batch = whole(task, "test")
    unknown = batch.targets[:, :-1].isnan()
    for number, origin in enumerate(task.origins("test")):
        expected = [origin + k in (260, 261) for k in (1, 2, 3)]
        assert unknown[number].tolist() == expected
    outputs = torch.randn(len(batch.targets), HORIZON, generator=torch.Generator().manual_seed(0))
    outputs.requires_grad_()
    task.loss(outputs, batch.targets).backward()
    assert outputs.grad is not None
    assert (outputs.grad[unknown] == 0).all() and (outputs.grad[~unknown] != 0).all()
    total = task.tally(outputs.detach(), batch.targets)
    assert total[-1] == (~unknown).sum() and total.isfinite().all()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_marks_and_line_ends(tmp_path: Path, task: Forecast, delimiter: str) -> None:
    path = write(tmp_path / "d.csv", {'"a"': text(A), "b": text(B)}, delimiter)
    content = path.read_text().replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    again = read_forecast(path, window=WINDOW, horizon=HORIZON)
    assert again.inputs == ("a", "b")
    torch.testing.assert_close(again.x, task.x, rtol=0, atol=0)


def test_decimal_commas_and_a_trailing_delimiter(tmp_path: Path, task: Forecast) -> None:
    path = tmp_path / "d.csv"
    path.write_text("\n".join(["a;b;", *(f"{a};{b};".replace(".", ",") for a, b in zip(A, B))]))  # noqa: B905
    again = read_forecast(path, window=WINDOW, horizon=HORIZON)
    torch.testing.assert_close(again.x, task.x, rtol=0, atol=0)


def test_columns_that_are_no_numbers(tmp_path: Path) -> None:
    wind = [("N", "S", "W")[i % 3] for i in range(ROWS)]
    columns = {
        "No": [str(i + 1) for i in range(ROWS)],
        "wind": wind,
        "remark": [f"text {i}" for i in range(ROWS)],
        "flat": ["3"] * ROWS,
        "b": text(B),
    }
    task = read_forecast(write(tmp_path / "a.csv", columns), window=WINDOW, horizon=HORIZON)
    assert task.inputs == ("b", "wind=N", "wind=S", "wind=W")
    hot = task.x[:, 1] > 0
    assert hot.tolist() == [w == "N" for w in wind]
    notes = " ".join(task.notes)
    for said in (
        "'No' only counts the rows",
        "'wind': 3 categories",
        "'remark'",
        "'flat' is const",
    ):
        assert said in notes


FORMS = {
    "%Y-%m-%d %H:%M:%S": 24,
    "%Y-%m-%dT%H:%M": 24,
    "%d/%m/%Y %H:%M": 24,
    "%m/%d/%Y %H:%M": 24,
    "%d.%m.%Y %H:%M:%S": 24,
}


@pytest.mark.parametrize("form", FORMS)
def test_hours_have_days(tmp_path: Path, form: str) -> None:
    hours = [datetime(2021, 1, 20) + timedelta(hours=i) for i in range(ROWS)]
    daily = np.sin(2 * np.pi * np.arange(ROWS) / 24) + 0.05 * RNG.normal(size=ROWS)
    columns = {"when": [h.strftime(form) for h in hours], "b": text(daily)}
    task = read_forecast(write(tmp_path / "a.csv", columns))
    assert task.period == FORMS[form] and task.horizon == 15  # a day, but at most rows / 20
    assert task.inputs == ("b", "sin(day)", "cos(day)")
    phase = torch.atan2(*(task.x[:, i] * s for i, s in ((1, 1), (2, 1))))
    turned = torch.diff(phase).remainder(2 * torch.pi)
    torch.testing.assert_close(
        turned, torch.full_like(turned, 2 * torch.pi / 24), atol=0.02, rtol=0
    )


def test_months_in_two_columns_and_rows_out_of_order(tmp_path: Path) -> None:
    months = [(1990 + i // 12, 1 + i % 12) for i in range(ROWS)]
    yearly = np.cos(2 * np.pi * np.arange(ROWS) / 12) + 0.05 * RNG.normal(size=ROWS)
    order = np.random.default_rng(0).permutation(ROWS)
    columns = {
        "Year": [str(months[i][0]) for i in order],
        "month": [str(months[i][1]) for i in order],
        "b": text(yearly[order]),
    }
    task = read_forecast(write(tmp_path / "a.csv", columns))
    assert task.period == 12 and task.horizon == 12
    np.testing.assert_array_equal(task.y.numpy(), yearly)
    assert any("not in order of date: sorted" in note for note in task.notes)
    assert any(re.match("columns Year, month read as the date", note) for note in task.notes)


def test_a_column_may_be_called_by_a_number(tmp_path: Path) -> None:
    dates = [f"{1900 + i}-01-01" for i in range(ROWS)]
    task = read_forecast(write(tmp_path / "a.csv", {"date": dates, "1": text(A), "2": text(B)}))
    assert task.target == "2" and task.inputs == ("1", "2")


def test_a_single_column_with_a_header_is_a_series(tmp_path: Path) -> None:
    task = read_forecast(write(tmp_path / "a.csv", {"b": text(B)}))
    assert task.target == "b" and task.inputs == ("b",) and task.horizon == 12


@pytest.mark.parametrize(
    ("ours", "text"),
    [(0.81, "10.0 % lower than"), (1.21, "10.0 % higher than"), (1e4, "100.0 times")],
)
def test_how_much_better_is_said_as_people_say_it(ours: float, text: str) -> None:
    losses = np.full(100, ours), np.ones(100)
    margin = Margin.of("ridge", *losses, blocks=2, beyond=2.0)
    assert f"RMSE is {text} that of the best simple answer (ridge)" in margin.text
