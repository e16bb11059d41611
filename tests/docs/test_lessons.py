"""The code blocks of the page of lessons run in their order, and print what their comments say."""

import re
import shlex
from pathlib import Path

import pytest

from steadygrad.cli.app import COMMANDS
from steadygrad.learn import LESSONS

PAGE = Path(__file__).parents[2] / "docs" / "lessons.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks("python"):
        exec(compile(code, str(PAGE), "exec"), names)
        printed = iter(capsys.readouterr().out.splitlines())
        for line in code.splitlines():
            said = line.partition(")  # ")[2] or line.partition("#")[2]
            if "print(" in line and said:
                assert any(said.strip().startswith(output) for output in printed), said


def test_the_table_has_every_lesson_and_its_question() -> None:
    rows = re.findall(r"\| `(\w+)` \| (.*) \|", PAGE.read_text("utf-8"))
    assert rows == [(name, kind.question) for name, kind in LESSONS.items()]


def test_the_commands_exist() -> None:
    for line in filter(None, "\n".join(blocks("sh")).splitlines()):
        program, command, *rest = shlex.split(line, comments=True)
        assert program == "steadygrad" and command in COMMANDS
        if command == "learn" and rest:
            assert rest[0] in LESSONS
