"""The table of all remedies, its command, and the page that quotes it."""

import json
from typing import Any

import pytest

from docs import choose
from steadygrad.bench import remedy_table
from steadygrad.cli import main
from steadygrad.remedies import REMEDIES


def test_the_page_is_what_the_remedies_and_the_table_say() -> None:
    written = choose.PAGE.read_text(encoding="utf-8")
    assert written == choose.page(), "docs/choose.md is stale: run python -m docs.choose"
    assert all(f"| `{name}` |" in written for name in REMEDIES)
    assert "{" not in written.partition("## In a training loop")[0]


def test_every_remedy_stands_in_the_committed_table() -> None:
    names = {key.partition(".")[0] for key in choose.evidence()}
    assert names == {"nothing", *REMEDIES}, "run steadygrad bench remedies again"


@pytest.mark.slow
def test_the_command_prints_the_table_and_its_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {name: REMEDIES[name] for name in ("clip-norm", "forget-bias", "orthogonal-init")}
    monkeypatch.setattr(remedy_table, "REMEDIES", few)
    monkeypatch.setattr(remedy_table, "UPDATES", 12)
    assert main(["bench", "remedies", "--seeds", "1", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["seeds"] == 1
    rows = {(row["remedy"], row["cell"]): row for row in document["rows"]}
    assert list(rows) == [
        ("nothing", "RNN"),
        ("nothing", "LSTM"),
        ("clip-norm", "RNN"),
        ("forget-bias", "LSTM"),
        ("orthogonal-init", "RNN"),
    ]
    ratio = {name: row["outcomes"]["vanishing"]["log10_ratio"] for name, row in rows.items()}
    assert ratio["orthogonal-init", "RNN"] > ratio["nothing", "RNN"] + 2
    assert ratio["clip-norm", "RNN"] == ratio["nothing", "RNN"]
    exploded = rows["nothing", "RNN"]["outcomes"]["exploding"]["log10_ratio"]
    assert exploded > 1 > rows["orthogonal-init", "RNN"]["outcomes"]["exploding"]["log10_ratio"]
    assert rows["clip-norm", "RNN"]["measured"] == REMEDIES["clip-norm"]().demonstrate().text
    monkeypatch.setattr(remedy_table, "UPDATES", 1)
    assert main(["bench", "remedies", "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "clip-norm: a spike of norm" in printed and "forget-bias" in printed
