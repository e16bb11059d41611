"""A trained forecast is used anywhere: it forecasts what its run did, from its folder alone."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file, save_file

import steadygrad as sg
from steadygrad.cli.app import run as cli
from steadygrad.deploy import ForecastModel
from steadygrad.errors import InputError
from steadygrad.nn.narx import Delays
from steadygrad.reading import TableSpec
from steadygrad.record import read
from steadygrad.tasks import read_forecast
from steadygrad.tasks.ahead import future_dates
from steadygrad.tasks.intervals import Intervals, Residuals, make_intervals
from steadygrad.train import TrainConfig, train
from steadygrad.train.narx_ahead import NarxAhead

ROWS, WINDOW, HORIZON = 260, 12, 3
RNG = np.random.default_rng(3)


def numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array(values, dtype=float)


def quick(file: Path, out: Path) -> TrainConfig:
    return TrainConfig(
        file,
        window=WINDOW,
        horizon=HORIZON,
        hidden=4,
        max_steps=4,
        validate_every=2,
        budget=0.0,
        lag="none",
        threads=1,
        out=out,
    )


def wave(rows: int) -> np.ndarray:
    return np.round(50 + 20 * np.sin(np.arange(rows) / 4) + RNG.normal(size=rows), 3)


def hours(rows: int, first: str = "2024-01-01") -> list[str]:
    return [f"{s:%d.%m.%Y %H:%M}" for s in pandas.date_range(first, periods=rows, freq="h")]


def write(path: Path, load: np.ndarray, heat: np.ndarray, first: str = "2024-01-01") -> Path:
    """A file of the German kind: semicolons, decimal commas, day before month."""
    cells = zip(hours(len(load), first), heat.tolist(), load.tolist(), strict=True)
    lines = [f"{t};{a};{'' if math.isnan(b) else b}".replace(".", ",", 0) for t, a, b in cells]
    commas = [
        ";".join([line.split(";")[0], *(c.replace(".", ",") for c in line.split(";")[1:])])
        for line in lines
    ]
    path.write_text("\n".join(["Zeit;heat;load", *commas, ""]))
    return path


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, object]]:
    """A run whose folder was moved; its file, elsewhere; and what it said of the next rows."""
    folder = tmp_path_factory.mktemp("run")
    file = write(folder / "a.csv", wave(ROWS), wave(ROWS) / 3)
    outcome = train(quick(file, folder / "run"))
    with read(outcome.record) as record:
        shown = record.notes["shown"]
    (folder / "run").rename(folder / "elsewhere")
    file.rename(folder / "b.csv")
    return folder / "elsewhere", folder / "b.csv", shown


@pytest.fixture
def model(moved: tuple[Path, Path, dict[str, object]]) -> ForecastModel:
    found = sg.load(moved[0])
    assert isinstance(found, ForecastModel)
    return found


def test_a_moved_run_forecasts_what_it_did_where_it_was_trained(
    moved: tuple[Path, Path, dict[str, object]], model: ForecastModel
) -> None:
    ahead = moved[2]["next"][0]  # pyright: ignore[reportIndexIssue]
    found = model.forecast(moved[1])
    np.testing.assert_allclose(numbers(found.series[0].values), ahead["values"], rtol=1e-9)
    np.testing.assert_allclose(numbers(found.series[0].low), ahead["low"], rtol=1e-6)
    last = pandas.Timestamp("2024-01-01") + pandas.Timedelta(hours=ROWS)
    assert found.rows()[0]["date"] == last.isoformat()


@pytest.mark.slow
def test_another_process_forecasts_the_same(
    moved: tuple[Path, Path, dict[str, object]], tmp_path: Path
) -> None:
    code = "from steadygrad.cli import main; main()"
    args = ["forecast", str(moved[0]), str(moved[1]), "--out", "f.csv"]
    subprocess.run([sys.executable, "-c", code, *args], check=True, cwd=tmp_path)
    found = pandas.read_csv(tmp_path / "f.csv")
    wanted = moved[2]["next"][0]["values"]  # pyright: ignore[reportIndexIssue]
    np.testing.assert_allclose(found["forecast"], wanted, rtol=1e-6)


def test_the_forecast_is_the_module_on_the_scaled_window(
    model: ForecastModel, tmp_path: Path
) -> None:
    """By hand: standardise with the training's numbers, one forward pass, back into the unit."""
    load, heat = wave(WINDOW + 5), wave(WINDOW + 5) / 3
    found = model.forecast(write(tmp_path / "c.csv", load, heat.round(3), "2025-03-01"))
    spec = model.spec
    phase = 2 * np.pi * (np.arange(len(load)) % 24) / 24
    columns = {
        "load": load,
        "heat": heat.round(3),
        "sin(day)": np.sin(phase),
        "cos(day)": np.cos(phase),
    }
    assert set(columns) == {i.name for i in spec.inputs}
    x = np.stack([(columns[i.name] - i.mean[0]) / i.deviation[0] for i in spec.inputs], 1)
    window = torch.tensor(x[-WINDOW:, None]).float()
    assert not spec.drifts
    with torch.no_grad():
        outputs = model.module(window)[0][0].double().numpy()
    np.testing.assert_allclose(found.series[0].values, load[-1] + spec.scale * outputs, rtol=1e-6)


def test_frames_and_streams_say_what_files_say(
    moved: tuple[Path, Path, dict[str, object]], model: ForecastModel
) -> None:
    wanted = model.forecast(moved[1]).series[0].values
    frame = pandas.read_csv(moved[1], sep=";", decimal=",")
    frame["Zeit"] = pandas.to_datetime(frame["Zeit"], format="%d.%m.%Y %H:%M")
    for form in (frame, frame.set_index("Zeit"), frame.set_index("Zeit").rename_axis(None)):
        np.testing.assert_allclose(model.forecast(form).series[0].values, wanted, rtol=1e-9)
    lines = moved[1].read_text().splitlines()
    stream = model.stream()
    assert stream.push(lines[0]) is None and stream.missing == WINDOW  # the header
    answers = [stream.push(line) for line in lines[-WINDOW - 1 : -1]]
    assert answers[-2] is None and answers[-1] is not None
    with pytest.raises(InputError, match="3"):
        stream.push("1;2")
    with pytest.raises(InputError):
        stream.push(lines[-1].rpartition(";")[0] + ";abc")
    last = stream.push(lines[-1])
    assert last is not None
    np.testing.assert_allclose(last.values, wanted, rtol=1e-6)
    by_name = model.stream()
    for row in frame.to_dict("records")[-WINDOW:]:
        last = by_name.push(row)
    assert last is not None
    np.testing.assert_allclose(last.values, wanted, rtol=1e-6)


def test_rows_with_an_empty_target_are_the_rows_to_be_forecast(
    moved: tuple[Path, Path, dict[str, object]], model: ForecastModel, tmp_path: Path
) -> None:
    load, heat = wave(40), wave(40).round(2)
    wanted = model.forecast(write(tmp_path / "a.csv", load, heat))
    empty = np.concatenate([load, np.full(2, np.nan)])
    more = np.concatenate([heat, heat[:2]])
    found = model.forecast(write(tmp_path / "b.csv", empty, more))
    assert found.rows() == wanted.rows()


def test_columns_that_were_not_there_in_training_are_left_alone(
    moved: tuple[Path, Path, dict[str, object]], model: ForecastModel, tmp_path: Path
) -> None:
    lines = moved[1].read_text().splitlines()
    odd = ["1.234,5", "1,2,3", "n/a", "31.13.2024"]
    more = [f"{line};{odd[i % 4] if i else 'odd'}" for i, line in enumerate(lines)]
    (tmp_path / "a.csv").write_text("\n".join(more) + "\n")
    assert model.forecast(tmp_path / "a.csv").rows() == model.forecast(moved[1]).rows()


def changed(moved: tuple[Path, Path, dict[str, object]], path: Path, what: str) -> Path:
    """Write the training's file in another form."""
    lines = [line.split(";") for line in moved[1].read_text().splitlines()]
    header, rows = lines[0], lines[1:]
    mark = "\t" if what == "tabs" else ";"
    if what == "other order":
        header, rows = header[::-1], [r[::-1] for r in rows]
    elif what == "shuffled":
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    elif what == "points":
        rows = [[r[0], *(c.replace(",", ".") for c in r[1:])] for r in rows]
    elif what == "ISO":
        rows = [[f"{pandas.to_datetime(r[0], dayfirst=True):%Y-%m-%dT%H:%M}", *r[1:]] for r in rows]
    elif what == "seconds since 1970":
        rows = [[str(1704067200 + 3600 * i), *r[1:]] for i, r in enumerate(rows)]
    elif what == "per cent":
        rows = [[*r[:2], f"{r[2]} %"] for r in rows]
    elif what == "another unit":
        rows = [[*r[:2], str(float(r[2].replace(",", ".")) * 100).replace(".", ",")] for r in rows]
    path.write_text("\n".join(mark.join(row) for row in [header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("what", ["other order", "tabs", "shuffled", "points"])
def test_a_file_in_another_form_is_read_alike(
    what: str, moved: tuple[Path, Path, dict[str, object]], model: ForecastModel, tmp_path: Path
) -> None:
    found = model.forecast(changed(moved, tmp_path / "a.csv", what))
    assert found.rows() == model.forecast(moved[1]).rows()


@pytest.mark.parametrize("what", ["ISO", "seconds since 1970", "per cent"])
def test_numbers_and_dates_written_otherwise_are_refused(
    what: str, moved: tuple[Path, Path, dict[str, object]], model: ForecastModel, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="write it as in the file that the model was trained on"):
        model.forecast(changed(moved, tmp_path / "a.csv", what))


def test_another_unit_is_told(
    moved: tuple[Path, Path, dict[str, object]], model: ForecastModel, tmp_path: Path
) -> None:
    notes = model.forecast(changed(moved, tmp_path / "a.csv", "another unit")).notes
    assert [n for n in notes if "column 'load'" in n and "another unit" in n]
    assert not any("another unit" in n for n in model.forecast(moved[1]).notes)


def test_what_cannot_be_forecast_is_refused_in_one_line(
    moved: tuple[Path, Path, dict[str, object]],
    model: ForecastModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = write(tmp_path / "short.csv", wave(5), wave(5))
    weights = tmp_path / "old" / "model.safetensors"
    weights.parent.mkdir()
    save_file(load_file(moved[0] / "model.safetensors"), weights, {"steadygrad": "weights"})
    torn = tmp_path / "torn" / "model.safetensors"
    torn.parent.mkdir()
    data = bytearray((moved[0] / "model.safetensors").read_bytes())
    data[-1] ^= 1
    torn.write_bytes(data)
    other = tmp_path / "other.csv"
    other.write_text("Zeit;load\n01.01.2024 00:00;1\n")
    for arguments, told in (
        ([moved[0], short], "5 rows"),
        ([moved[0], moved[1], "--horizon", "9"], "heat"),
        ([moved[0], moved[1], "--level", "1.5"], "level"),
        ([moved[0], other], "'heat'"),
        ([tmp_path / "none", moved[1]], "no such run"),
        ([weights.parent, moved[1]], "weights alone"),
        ([torn.parent, moved[1]], "checksum"),
    ):
        assert cli(["forecast", *map(str, arguments)]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and told in said[0], (told, said)
    assert cli(["generate", str(moved[0])]) == 2


def test_a_backtest_scores_what_the_forecasts_from_there_were(
    moved: tuple[Path, Path, dict[str, object]], model: ForecastModel, tmp_path: Path
) -> None:
    found = model.backtest(moved[1], 4)
    task = read_forecast(moved[1], "load", WINDOW, HORIZON)
    y = task.y.numpy()
    errors = []
    for k in range(4, 0, -1):
        rows = ROWS - k * HORIZON
        lines = moved[1].read_text().splitlines()[: rows + 1]
        (tmp_path / "cut.csv").write_text("\n".join(lines) + "\n")
        values = model.forecast(tmp_path / "cut.csv").series[0].values
        np.testing.assert_allclose(found.forecasts[4 - k].values, values, rtol=1e-6)
        errors += (np.array(values) - y[rows : rows + HORIZON]).tolist()
    assert found.scores["model"]["RMSE"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_forecasts_go_on_from_forecasts_where_nothing_else_is_needed(tmp_path: Path) -> None:
    """Twice the horizon equals: forecast, write the forecasts into the file, forecast again."""
    file = tmp_path / "a.csv"
    values = wave(ROWS).tolist()
    file.write_text("y\n" + "\n".join(map(str, values)) + "\n")
    train(quick(file, tmp_path / "run"))
    model = sg.load(tmp_path / "run")
    assert isinstance(model, ForecastModel)
    found = model.forecast(file, horizon=2 * HORIZON).series[0]
    file.write_text("y\n" + "\n".join(map(repr, [*values, *found.values[:HORIZON]])) + "\n")
    further = model.forecast(file).series[0]
    np.testing.assert_allclose(found.values[HORIZON:], further.values, rtol=1e-6)
    assert found.low[HORIZON:] == (None,) * HORIZON and None not in found.low[:HORIZON]


def test_one_of_several_series_is_forecast_as_among_the_others(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    rows = {n: (wave(120) * 10**k).round(3) for k, n in enumerate(names)}
    lines = [
        f"{d:%Y-%m-%d},{n},{rows[n][i]}"
        for n in names
        for i, d in enumerate(pandas.date_range("2020-01-01", periods=120))
    ]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(["date,shop,y", *lines, ""]))
    config = quick(file, tmp_path / "run")
    train(replace(config, reading=replace(config.reading, series="shop")))
    model = sg.load(tmp_path / "run")
    assert isinstance(model, ForecastModel)
    whole = {a.series: a for a in model.forecast(file).series}
    assert set(whole) == set(names)
    alone = [line for line in lines if ",b," in line]
    file.write_text("\n".join(["date,shop,y", *alone, ""]))
    (found,) = model.forecast(file).series
    np.testing.assert_allclose(numbers(found.values), numbers(whole["b"].values), rtol=1e-6)
    np.testing.assert_allclose(numbers(found.low), numbers(whole["b"].low), rtol=1e-6)
    file.write_text("\n".join(["date,shop,y", *(s.replace(",b,", ",z,") for s in alone), ""]))
    strange = model.forecast(file)
    assert any("not there in training" in note for note in strange.notes)


def test_intervals_are_order_statistics_and_cover_what_is_like_them() -> None:
    errors = RNG.normal(size=(999, 2)) * [1, 3]
    made = make_intervals(
        Residuals(errors, np.arange(999)),
        Residuals(RNG.normal(size=(4000, 2)) * [1, 3], np.arange(4000)),
    )
    wanted = np.sort(np.abs(errors), 0)[math.ceil(1000 * 0.8) - 1]
    np.testing.assert_allclose(made.width(0.8).numpy(), wanted, rtol=1e-6)
    assert made.coverage["0.8"] == pytest.approx(0.8, abs=0.04)
    assert Intervals.of(made.plain()) == made
    few = make_intervals(Residuals(errors[:9], np.arange(9)), Residuals(errors[:5], np.arange(5)))
    assert bool(few.width(0.95).isinf().all()) and bool(few.width(0.5).isfinite().all())


@pytest.mark.parametrize(
    ("frequency", "every", "last", "wanted"),
    [
        ("1 month", None, "2024-01-31", ["2024-02-29", "2024-03-31"]),
        ("1 month", None, "2024-01-01", ["2024-02-01", "2024-03-01"]),
        ("business day", None, "2024-03-01", ["2024-03-04", "2024-03-05"]),
        ("1 year", None, "2023-01-01", ["2024-01-01", "2025-01-01"]),
        ("6 hours", None, "2024-01-01T18:00", ["2024-01-02T00:00", "2024-01-02T06:00"]),
        ("1 hour", "1D", "2024-01-01", ["2024-01-02", "2024-01-03"]),
    ],
)
def test_dates_go_on_as_the_calendar_has_them(
    frequency: str, every: str | None, last: str, wanted: list[str]
) -> None:
    spec = TableSpec(step=6 * 3600.0, frequency=frequency, every=every)
    found = future_dates(np.datetime64(last, "us"), spec, 2)
    assert found == [np.datetime64(w, "us") for w in wanted]


def test_narx_runs_free_over_inputs_that_are_known_ahead(tmp_path: Path) -> None:
    """Its forecast is that of the delay lines of the file's own columns, filled by hand."""
    u, y = wave(ROWS) / 10, wave(ROWS)
    file = tmp_path / "a.csv"
    file.write_text("u,y\n" + "\n".join(f"{a},{b}" for a, b in zip(u, y, strict=True)) + "\n")
    config = replace(
        quick(file, tmp_path / "run"), cell="narx", free_run=True, input_lags="0-2", window=16
    )
    train(config)
    model = sg.load(tmp_path / "run")
    assert isinstance(model, ForecastModel)
    future = u[:HORIZON]
    rows = [*zip(u, map(str, y), strict=True), *((v, "") for v in future)]
    file.write_text("u,y\n" + "\n".join(f"{a},{b}" for a, b in rows) + "\n")
    found = model.forecast(file).series[0].values
    layer = model.module.recurrent
    assert isinstance(layer, NarxAhead)
    known = next(i for i in model.spec.inputs if i.source == "known")
    own = next(i for i in model.spec.inputs if i.column == "y")

    def scaled(values: np.ndarray, mean: float, deviation: float) -> torch.Tensor:
        return torch.tensor((values - mean) / deviation).float()[:, None, None]

    inputs = scaled(np.concatenate([u[-2:], future]), known.mean[0], known.deviation[0])
    outputs = scaled(y[-2:], own.mean[0], own.deviation[0])
    with torch.no_grad():
        z, _ = layer.net.free_run(inputs[2:], Delays(inputs[:2], outputs))
    wanted = z[:, 0, 0].double().numpy() * own.deviation[0] + own.mean[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("cell", ["bilstm", "cnn-lstm"])
def test_composed_layers_are_trained_and_used(
    cell: str, tmp_path: Path, moved: tuple[Path, Path, dict[str, object]]
) -> None:
    outcome = train(replace(quick(moved[1], tmp_path / "run"), cell=cell))
    with read(outcome.record) as record:
        ahead = record.notes["shown"]["next"][0]
    model = sg.load(tmp_path / "run")
    assert isinstance(model, ForecastModel)
    np.testing.assert_allclose(model.forecast(moved[1]).series[0].values, ahead["values"])
