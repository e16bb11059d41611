"""CONTRIBUTING's walk to a new remedy, taken to the letter in a copy of the package."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.walk import ask, run, walked

TABLE = """
import json
from steadygrad.bench import remedy_table
from steadygrad.remedies import REMEDIES
remedy_table.REMEDIES = {n: REMEDIES[n] for n in ("unit-length", "forget-bias")}
remedy_table.UPDATES = 20
rows = list(remedy_table.remedy_table(1, lambda *_: None))
print(json.dumps({r.remedy: [r.claim, r.measured] for r in rows}))
"""
FOUND = """
from steadygrad.diagnosis.prescribe import Prescriber
from steadygrad.faults import Finding
import torch
names = Prescriber(torch.nn.RNN(2, 3)).prescribe(Finding("exploding", "rnn", "text")).remedies
print(",".join(names))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walked("Add a remedy", "remedies", tmp_path_factory.mktemp("walk"))


@pytest.mark.slow
def test_it_has_every_property(source: Path) -> None:
    selected = ("-k", "(unit-length and not two_remedies) or no_remedy_is_left_out", "-q")
    selected += ("-m", "slow or not slow")
    done = run(source, "-m", "pytest", "tests/remedies/test_remedies.py", *selected)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed.group(1)) >= 20


def test_it_is_prescribed_at_its_rank_and_stands_in_the_table(source: Path) -> None:
    done = run(source, "-c", FOUND + TABLE)
    assert done.returncode == 0, done.stderr
    names, table = done.stdout.splitlines()
    assert names.split(",")[-2:] == ["clip-value", "unit-length"]  # ranks 40 and 45
    claim, measured = json.loads(table)["unit-length"]
    assert "is length" in claim and re.fullmatch(r"a spike of norm \S+ becomes 1", measured)


def test_it_appears_in_the_command_line_and_the_page(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(300)))
    short = ("--max-steps", "1", "--window", "8", "--horizon", "1", "--hidden", "4")
    remedy = ("--remedies", "unit_length:length=0.5", "--out", str(tmp_path / "run"))
    told, trained, page = ask(
        source,
        ("explain", "exploding", "--json"),
        ("train", str(data), *short, *remedy),
        ("docs", "choose"),
    )
    assert "unit-length" in json.loads(told.output)["remedies"], told.errors
    assert trained.code in (0, 1), trained.errors
    assert "| `unit-length` | `length=1.0` | The norm of every gradient" in page.output
