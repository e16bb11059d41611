"""CONTRIBUTING's walk to a new fault, taken to the letter in a copy of the package."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.walk import run, walked

RECORD = """
import sys
from pathlib import Path
from steadygrad.record import Record, read
from steadygrad.report import write
path = Path(sys.argv[1])
with Record.create(path, config={}) as record:
    for step in range(8):
        record.scalars(step, {"loss": 1.0, "update_ratio": 0.0})
    found = {"fault": "frozen", "layer": "optimizer", "text": "It stands.", "evidence": {}}
    record.finding(1, found)
with read(path) as run:
    write(run, path.with_suffix(".html"))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walked("Add a fault", "faults", tmp_path_factory.mktemp("walk"))


def test_it_has_every_property(source: Path) -> None:
    selected = ("-k", "frozen or left_out or share or worst", "-q", "-p", "no:cacheprovider")
    done = run(source, "-m", "pytest", "tests/faults/test_faults.py", *selected)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed.group(1)) >= 7


def test_it_is_found_and_appears_in_the_command_line(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    done = run(source, "-c", RECORD, str(path))
    assert done.returncode == 0, done.stderr
    command = ("-m", "steadygrad.cli", "check", str(path), "--json", "--fail-on")
    found = json.loads(run(source, *command, "frozen").stdout)
    assert found["failed"] and found["findings"][0]["fault"] == "frozen"
    assert not json.loads(run(source, *command, "exploding").stdout)["failed"]
    told = json.loads(run(source, "-m", "steadygrad.cli", "explain", "--json").stdout)
    assert list(told).index("frozen") == list(told).index("truncated") + 1  # severity 45
    told = run(source, "-m", "steadygrad.cli", "explain", "frozen").stdout
    assert "No step has changed a weight" in told and "parameters of this model" in told
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "--fault:#4b7fa8" in page and "No step has changed a weight" in page


def test_it_appears_in_the_pages(source: Path) -> None:
    for name in ("faults", "choose"):
        page = run(source, "-c", f"from docs.{name} import page; print(page())").stdout
        assert "frozen" in page and "give the optimiser the parameters" in page
