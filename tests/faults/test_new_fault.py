"""CONTRIBUTING's walk to a new fault, taken to the letter in a copy of the package."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.walk import ask, run, walked

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


@pytest.mark.slow
def test_it_has_every_property(source: Path) -> None:
    selected = ("-k", "frozen or left_out or share or worst", "-q", "-p", "no:cacheprovider")
    done = run(source, "-m", "pytest", "tests/faults/test_faults.py", *selected)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed.group(1)) >= 7


def test_it_is_found_and_appears_in_the_command_line_and_the_pages(
    source: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.db"
    done = run(source, "-c", RECORD, str(path))
    assert done.returncode == 0, done.stderr
    check = ("check", str(path), "--json", "--fail-on")
    frozen, exploding, listed, told, *pages = ask(
        source,
        (*check, "frozen"),
        (*check, "exploding"),
        ("explain", "--json"),
        ("explain", "frozen"),
        ("docs", "faults"),
        ("docs", "choose"),
    )
    found = json.loads(frozen.output)
    assert found["failed"] and found["findings"][0]["fault"] == "frozen"
    assert not json.loads(exploding.output)["failed"]
    names = list(json.loads(listed.output))
    assert names.index("frozen") == names.index("truncated") + 1  # severity 45
    assert "No step has changed a weight" in told.output
    assert "parameters of this model" in told.output
    for page in pages:
        assert "frozen" in page.output and "give the optimiser the parameters" in page.output
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "--fault:#4b7fa8" in page and "No step has changed a weight" in page
