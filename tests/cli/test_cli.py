"""The command line: what it prints, where, and with which exit code."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console  # noqa: TID251  # its drawing is what is tested

import steadygrad
from steadygrad.cli import main
from steadygrad.cli.app import COMMANDS
from steadygrad.cli.display import Live, clock
from steadygrad.cli.plain_json import plain
from steadygrad.reading import Reading
from steadygrad.train import TrainConfig
from steadygrad.train.events import Remark, Started, Stepped, Understood, Validated
from tests.helpers.forked import Python, python

QUICK = ("--hidden", "8", "--max-steps", "20", "--validate-every", "10", "--threads", "1")


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "wave.csv"
    path.write_text("y\n" + "\n".join(f"{v:.4f}" for v in np.sin(np.arange(200) / 3)) + "\n")
    return path


def run(*arguments: str | Path, code: int = 0) -> None:
    assert main([str(a) for a in arguments]) == code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    run("--version")
    assert capsys.readouterr().out == f"steadygrad {steadygrad.__version__}\n"


def test_help_lists_every_command_and_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    run("--help")
    told = capsys.readouterr().out
    assert all(command in told for command in COMMANDS) and "Exit codes" in told
    run("train", "--help")
    told = capsys.readouterr().out
    names = {f.name.replace("_", "-") for f in fields(TrainConfig)} - {"file", "reading"}
    names |= {f.name.replace("_", "-") for f in fields(Reading)}
    assert all(f"--{name}" in told for name in names)
    assert "{None}" not in told and "--window INT" in told


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_summary_that_the_overview_shows(name: str) -> None:
    command = getattr(importlib.import_module(f"steadygrad.cli.{name}"), name)
    first, _, _ = (command.__doc__ or "").partition("\n\n")
    assert " ".join(first.split()) == COMMANDS[name]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "no command 'trian'; did you mean 'train'?"),
        (["--verson"], "no option '--verson'; did you mean '--version'?"),
        (["train", "x", "--hiden", "3"], "Perhaps you meant: --hidden INT"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*arguments, code=2)
    errors = " ".join(capsys.readouterr().err.replace("│", " ").replace("─", "").split())
    assert says in errors


@pytest.mark.parametrize(
    "arguments",
    [
        "--version",
        "--help",
        "",
        "trian",
        "train",
        "train x --hiden 3",
        *(f"{name} --help" for name in COMMANDS),
    ],
)
def test_help_and_wrong_use_wait_neither_for_torch_nor_for_pandas(arguments: str) -> None:
    code = f"from steadygrad.cli import main; main({arguments.split()})"
    held = f"{code}; import sys; print(sorted({{'torch', 'pandas', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", held], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("columns", [40, 72, 200])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_breaks_its_lines_between_words(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    run(*filter(None, [name, "--help"]))
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= columns or " " not in line.strip() for line in lines)
    assert not name or lines[0].startswith(f"usage: steadygrad {name}")


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", "x", "--hiden", "3"]])
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(*arguments, code=2)
    output, errors = capsys.readouterr()
    assert output == "" and errors


def test_train_prints_plain_lines_and_writes_a_report(
    wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", wave, "--out", tmp_path, *QUICK)
    output, errors = capsys.readouterr()
    assert errors == "" and "\x1b" not in output
    lines = output.splitlines()
    assert lines[0].startswith("reading wave.csv, ")
    assert any(line.startswith("lstm on wave.csv: ") and "parameters on" in line for line in lines)
    assert any(line.split() == ["target", "y;", "--target", "chooses", "another"] for line in lines)
    assert sum(line.startswith("step") for line in lines) == 3  # 0, 10 and 20
    assert any(line.startswith("last value") for line in lines)
    assert any("every naive answer (RMSE decides)" in line for line in lines)
    assert lines[-1] == f"report: {tmp_path / 'report.html'}"
    names = {p.name for p in tmp_path.iterdir() if p.suffix not in (".db-wal", ".db-shm")}
    assert names == {"run.db", "checkpoint.safetensors", "model.safetensors", "report.html"}
    page = (tmp_path / "report.html").read_text()
    assert "wave.csv" in page and "last value" in page


def test_json_is_one_document_and_nothing_else(
    wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", wave, "--json", "--out", tmp_path, *QUICK)
    output, errors = capsys.readouterr()
    document = json.loads(output)
    assert errors == "" and document["status"] == "finished" and document["step"] == 20
    assert {s["unit"] for s in document["scores"]} == {"RMSE", "MAE", "MASE"}
    assert Path(document["report"]).exists() and Path(document["weights"]).exists()


def test_diverged_is_exit_code_1_with_a_report(
    wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ("--cell", "elman:nonlinearity=relu", "--learning-rate", "1e6", "--window", "60")
    run("train", wave, "--out", tmp_path, *wild, *QUICK, code=1)
    errors = capsys.readouterr().err
    assert errors.startswith("steadygrad: training diverged: the ") and errors.count("\n") == 1
    assert (tmp_path / "report.html").exists()
    # What became of it is told again, and the page drawn again; nothing is trained.
    run("train", wave, "--out", tmp_path, *wild, *QUICK, "--resume", code=1)
    assert capsys.readouterr().err == errors
    run("train", wave, "--out", tmp_path, *wild, *QUICK, "--resume", "--rollbacks", "2", code=2)
    assert "the run there is diverged" in capsys.readouterr().err


def test_report_draws_again(wave: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("train", wave, "--json", "--out", tmp_path / "a", *QUICK)
    first = (tmp_path / "a" / "report.html").read_text()
    (tmp_path / "a" / "report.html").unlink()
    capsys.readouterr()
    run("report", tmp_path / "a" / "run.db")
    assert capsys.readouterr().out == f"{tmp_path / 'a' / 'report.html'}\n"
    assert (tmp_path / "a" / "report.html").read_text() == first
    run("report", tmp_path / "a" / "run.db", "--out", tmp_path / "deep" / "r.html")
    assert (tmp_path / "deep" / "r.html").read_text() == first
    capsys.readouterr()
    for bad, says in ((tmp_path, "folder"), (tmp_path / "a" / "run.db" / "x", "run.db")):
        run("report", tmp_path / "a" / "run.db", "--out", bad, code=2)
        errors = capsys.readouterr().err
        assert says in errors and errors.count("\n") == 1
    run("report", tmp_path / "none.db", code=2)
    assert errors.count("\n") == 1


def test_ctrl_c_saves_and_says_how_to_go_on(wave: Path, tmp_path: Path) -> None:
    command = ["-m", "steadygrad.cli", "train", str(wave), "--out", str(tmp_path)]
    options = ["--hidden", "8", "--threads", "1", "--patience", "999", "--max-steps", "1000000"]
    process = Python(*command, *options, env={**os.environ, "STEADYGRAD_BACKEND": "eager"})
    for line in process.stdout:
        if line.startswith("step    100"):
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == ""
    assert "continue with the same command and --resume" in output
    assert (tmp_path / "report.html").exists()


def test_without_the_toolkits_one_line_says_what_to_install() -> None:
    for missing in ("tyro", "rich"):
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from steadygrad.cli import main; sys.exit(main(['train', 'x']))"
        )
        done = python("-c", code)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and "pip install 'steadygrad[cli]'" in done.stderr


def test_live_figures() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=30)
    started = Started("lstm on x", {}, ("a [note]",), 7, "cpu", Path("runs/x"), 0, 400, 10)
    gradient = {"grad_norm": 2.5, "clipped_share": 1.0, "horizon": 12, "verdict": "healthy"}
    with Live(console) as live:
        live.tell(Understood((("note", "a [note]"),)))
        live.tell(started)
        live.tell(Validated(0, 0, 1.0, {"RMSE": 2.0}, True, 1e-3))
        live.tell(Remark("nonfinite", 3, "something happened"))
        for step in range(1, 101):
            live.tell(Stepped(step, 0, 0.5, gradient, step * 0.5))
        figures = live.figures(Stepped(100, 0, 0.5, gradient, 50.0))
    with console.capture() as captured:
        console.print(figures)
    told = captured.get()
    columns = ("step", "loss", "gradient norm", "clipped", "horizon", "verdict", "time left")
    assert [line for line in told.splitlines() if all(name in line for name in columns)]
    for said in (
        "Ctrl-C",
        "100/400",
        "0.5000",
        "2.5",
        "87%",
        "12 steps",
        "healthy",
        "at most 2 min",
    ):
        assert said in told, said
    assert isinstance(console.file, io.StringIO)
    assert all(said in console.file.getvalue() for said in ("a [note]", "RMSE 2", "something"))


def test_numbers_that_json_does_not_have() -> None:
    given = {"a": float("nan"), "b": [float("inf"), -float("inf"), 1.5], "c": Path("x"), "d": None}
    text = json.dumps(plain(given), allow_nan=False)
    assert json.loads(text) == {"a": "nan", "b": ["inf", "-inf", 1.5], "c": "x", "d": None}


@pytest.mark.parametrize(("seconds", "text"), [(9.6, "10 s"), (600, "10 min"), (7200, "2.0 h")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
