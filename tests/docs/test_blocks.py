"""Every block of code of the README and of docs/ runs, page by page, and prints what it says.

Blocks of a page run in their order in one folder, Python in one module, lines of the shell through
the same entry point as the command. A comment ``<!-- test: setup ... -->`` runs first: data that a
reader has. Behind ``print(...)  # text`` the text has to begin with the printed line, numbers
within a twentieth, unless it says ``shows ...``; a block ``text`` is the whole output of the blocks
since the last one.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from steadygrad.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```([\w-]*)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SETUP = re.compile(r"<!-- test: setup\n(.*?)-->", re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?")
SETUP_OF = {"README.md": ROOT / "docs/how-to/forecasting.md"}
"""Pages whose data are those of another page."""
QUICK = {
    "docs/features.md",
    "docs/how-to/files.md",
    "docs/remedies.md",
    "docs/compiler.md",
    "docs/cells.md",
}
"""Pages that take about a second; the others are slow, or have a test of their own."""
SHORT = {  # budgets of seconds for what takes a reader minutes
    "train": ["--max-steps", "20", "--hidden", "8", "--validate-every", "10", "--threads", "1"],
    "bench": None,  # tests/bench runs them
    "demo": None,
    "live": None,  # serves until Ctrl-C: tests/board
    "replay": None,  # needs a step that was not finite: tests/diagnosis
}
SHELL = {"git", "pip", "make", "torchrun", "tail", "steadygrad", "python", "bash"}


@dataclass(frozen=True)
class Block:
    """One block: its language, what stands behind that, and its text."""

    language: str
    options: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text("utf-8"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def like(wanted: str, got: str, room: float = 0.05) -> bool:
    """Whether two texts are the same but for small differences of numbers, as of processors."""
    if NUMBER.sub("#", wanted).split() != NUMBER.sub("#", got).split():
        return False
    pairs = zip(NUMBER.findall(wanted), NUMBER.findall(got), strict=True)
    numbers = [(float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs]
    return all(abs(a - b) <= room * max(1.0, abs(a)) for a, b in numbers)


def tells(comment: str, printed: str) -> bool:
    """Whether a comment begins with what was printed; a colon and a remark may follow."""
    words = len(printed.split())
    begin = " ".join(comment.split()[:words])
    return bool(words) and any(like(text, printed) for text in (begin, begin.rstrip(":,;")))


class PageRun:
    """Runs the blocks of one page."""

    def __init__(self, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page = page
        self.module = types.ModuleType(f"page_{page.stem.replace('-', '_')}")
        monkeypatch.setitem(sys.modules, self.module.__name__, self.module)
        self.output = ""

    def run(self) -> None:
        home = SETUP_OF.get(name_of(self.page), self.page)
        for code in SETUP.findall(home.read_text("utf-8")):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, str(self.page), "exec"), {})
        for block in blocks(self.page):
            if "no-run" in block.options:
                compile(block.text, str(self.page), "exec")
            elif block.language == "python":
                self.python(block.text)
            elif block.language == "sh":
                for line in lines(block.text):
                    self.shell(line)
            elif block.language == "text":
                assert like(block.text.strip(), self.output.strip()), (block.text, self.output)
                self.output = ""

    def python(self, code: str) -> None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, str(self.page), "exec"), self.module.__dict__)
        printed = said.getvalue()
        self.output += printed
        rest = iter(printed.splitlines())
        for line in code.splitlines():
            wanted = line.partition(")  # ")[2]
            if line.lstrip().startswith("print(") and wanted and not wanted.startswith("shows "):
                assert any(tells(wanted, got) for got in rest), (line, printed)

    def shell(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if "|" in words or ">" in words:
            words = words[: min(words.index(s) for s in ("|", ">") if s in words)]
        assert words[0] in SHELL, line
        if words[0] == "steadygrad":
            extra = SHORT.get(words[1], [])
            if extra is not None and "--resume" not in words:
                assert main([*words[1:], *extra]) in (0, 1), line
        elif words[0] == "torchrun":
            torchrun(words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif words[0] == "pip":
            extras(words)


def lines(shell: str) -> list[str]:
    joined = shell.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]


def torchrun(words: list[str]) -> None:
    bin_ = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    command += SHORT["train"] or [] if "train" in words else []
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def extras(words: list[str]) -> None:
    """The extras that a page names exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for named in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(named.split(",")) <= project["optional-dependencies"].keys()


def cases() -> list[object]:
    found: list[object] = []
    for page in PAGES:
        name = name_of(page)
        if not blocks(page) or name == "docs/lessons.md":  # tests/docs/test_lessons.py
            continue
        found.append(pytest.param(page, id=name, marks=[] if name in QUICK else [pytest.mark.slow]))
    return found


@pytest.mark.parametrize("page", cases())
def test_the_blocks_of_a_page_run_and_print_what_they_say(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of a reader's own loop, such as a scheduler's
        PageRun(page, monkeypatch).run()


def test_numbers_may_differ_a_little_and_words_may_not() -> None:
    assert like("vanishing: 10^-38.1 of it", "vanishing: 10^-38.4 of it")
    assert not like("vanishing: 10^-38.1 of it", "healthy: 10^-38.1 of it")
    assert not like("lag 50", "lag 60")
    assert not like("a 1", "a 1 b")
