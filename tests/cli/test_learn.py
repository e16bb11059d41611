"""``steadygrad learn`` and a question to ``steadygrad explain``, through the command line."""

import json
from pathlib import Path

import pytest

from steadygrad.cli import main
from steadygrad.learn import LESSONS

QUICK = {
    "lstm": ["--steps", "5", "--programme", "wkr"],
    "backprop": ["--cell", "lstm"],
    "vanish": ["--hidden", "4", "--steps", "8", "--layers", "2"],
    "clip": ["--steps", "2"],
    "remember": ["--updates", "2", "--hidden", "8"],
}


def test_every_lesson_is_listed_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == list(LESSONS)
    assert main(["learn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {n: k.question for n, k in LESSONS.items()}


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_shown_and_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["learn", name, *QUICK[name], "--out", str(page)]) == 0
    output = capsys.readouterr().out
    assert LESSONS[name].question in " ".join(output.split())
    assert str(page) in output.replace("\n", "")
    text = page.read_text("utf-8")
    assert "Content-Security-Policy" in text and "https://" not in text


@pytest.mark.parametrize("name", LESSONS)
def test_a_lessons_json_is_one_document(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", name, *QUICK[name], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["lesson"] == name and len(document) > 3


def test_the_options_are_those_of_the_lesson(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "lstm", "--help"]) == 0
    output = capsys.readouterr().out
    assert "usage: steadygrad learn lstm" in output
    assert all(option in output for option in ("--weight", "--steps", "--out", "--json"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lstn"], "no lesson 'lstn'; did you mean 'lstm'?"),
        (["lstm", "--steps", "0"], "steps must be 1 to 2000"),
        (["lstm", "--out", "/proc/none/page.html"], "give another --out"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["learn", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and says in errors and len(errors.splitlines()) == 1


def test_a_question_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--cell", "lstm", "--layers", "2", "--lr", "0.01", "--symptom", "loss NaN at epoch 3"]
    assert main(["explain", *asked]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "nonfinite" in output and "lr-high" in output and "sg.watch(model, optimizer)" in output
    assert main(["explain", *asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"nonfinite", "exploding", "exploding-depth", "lr-high"} == {
        s["fault"]["fault"] for s in answer["suspects"]
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--symptom", "purple sky"], "no fault is known by the words"),
        (["vanishing", "--lr", "0.1"], "not both"),
        (["--cell", "lstn"], "lstn"),
        (["--lr", "-1"], "lr must be above 0"),
    ],
)
def test_a_question_without_an_answer_is_refused(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 2
    assert says in capsys.readouterr().err
