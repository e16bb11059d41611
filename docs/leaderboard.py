"""The page of our best beside the published best: ``python -m docs.leaderboard``.

From the committed results alone: ``benchmarks/papers/*/result.json``, and ``published.json``, the
published predictions scored as ours are.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.papers.identification.published import FILE

from docs.papers import RESULTS
from steadygrad.bench.paper_table import Paper, PaperRow, find

PAGE = Path(__file__).with_suffix(".md")
TOP = """\
# Leaderboard

<!-- Made by `python -m docs.leaderboard`; edit benchmarks/papers instead. -->

Our best result on sets for which others keep tables, beside the best published one that we could
check. [Published results](papers.md) has every row, its spread, its budget and its command.
"""
IDENTIFICATION = """\
## System identification

Training and test parts, and the initial window of 50 steps, are those of
[nonlinearbenchmark.org](https://www.nonlinearbenchmark.org) (package `nonlinear-benchmarks`). A
model simulates: it sees the inputs, and outputs of the first 50 test steps alone, which are not
scored. Fitted and chosen on the training part: of several restarts the one with the lowest
simulation error on held-back training steps is scored (*chosen*), or the mean of the predictions of
all (*together*). Ours is the median over repetitions of the whole; a single repetition may be luck,
for on the tanks restarts of one network go from 0.3 to 0.9 V.

The published numbers are those of Champneys, Beintema, Tóth, Schoukens and Rogers, *Baseline
Results for Selected Nonlinear System Identification Benchmarks*, 2024 (arXiv 2405.10779), from the
authors' result files. Their networks start from a zero state and are scored from their first
prediction on (step 1 to 31), so they are not counted as ours are; on the Silverbox multisine this
matters. The column *scored alike* is the error of the very same published predictions after the 50
steps (`python -m benchmarks.papers.identification.published`): compare ours with that. They try
25 sizes with 10 restarts each, of 20,000 (tanks) or 10,000 updates; our sizes were set by a few
trials on the validation part. What a set's `config.toml` lists and its table lacks has not been run
yet; the same command does it. No published ARX or NARX prediction for Silverbox could be read.
"""
SETS = {
    "tanks": ("cascaded_tanks", "cascaded tanks", "V", 1.0),
    "silverbox-multisine": ("silverbox", "Silverbox, multisine", "mV", 1000.0),
    "silverbox": ("silverbox", "Silverbox, arrow, full", "mV", 1000.0),
    "silverbox-no-extrapolation": ("silverbox", "Silverbox, arrow, no extrapolation", "mV", 1000.0),
}
"""System: the paper's folder, the setting of its rows, the unit, and what it is in the file's."""
OTHERS = """\
## Other sets

Where both are a number. † ours was smaller or shorter than the published run: not comparable.

| set | figure | ours | with | published | with | source |
|---|---|--:|---|--:|---|---|
"""
FOLDERS = ("permuted_mnist", "ptb", "hou", "lem")
BEAT = """\
## Beat it

```
pip install -e '.[dev]'
export STEADYGRAD_DATA=...   # with cascaded_tanks/dataBenchmark.csv and silverbox/SNLS80mV.csv
python -m benchmarks.papers.cascaded_tanks   # does what is not on file; --fresh does all
python -m benchmarks.papers.silverbox
python -m docs.leaderboard
```

To enter a recurrence, add an entry to `config.toml` of the set's folder in `benchmarks/papers`: a
copy of one of `kind = "recurrent"`, its `cell` any name of [the list of cells](cells.md) or one of
your own, `"file.py:Class"`. To enter another kind of model, add a module with a function `fit` to
`benchmarks/papers/identification`. The test part is not handed to it.
"""


def page() -> str:
    """The whole page."""
    papers = {paper.name: paper for paper in find(RESULTS)}
    published = json.loads(FILE.read_text(encoding="utf-8"))
    best, tables = [], []
    for system, (folder, setting, unit, scale) in SETS.items():
        theirs = {m: {k: v * scale for k, v in s.items()} for m, s in published[system].items()}
        ours = _entries(papers[folder], setting)
        best.append(_best(setting, unit, ours, theirs))
        tables.append(_ranking(setting, unit, ours, theirs))
    head = (
        "| set | ours | with | published | with | published, scored alike | with |\n"
        "|---|--:|---|--:|---|--:|---|"
    )
    summary = "\n".join([head, *best])
    parts = [TOP, IDENTIFICATION, summary, *tables, OTHERS + _others(papers.values()), BEAT]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _entries(paper: Paper, setting: str) -> list[PaperRow]:
    """Rows of one model that is not chosen by the test part: no mean, no best of restarts."""
    return [
        row
        for row in paper.rows
        if row.setting == setting and row.ours is not None and not re.search("mean|best", row.unit)
    ]


def _name(row: PaperRow) -> str:
    """The method, and how one answer was made of its restarts."""
    return ", ".join([row.method, *row.unit.split(", ")[2:]])


def _best(
    setting: str, unit: str, ours: list[PaperRow], theirs: dict[str, dict[str, float]]
) -> str:
    row = min(ours, key=lambda row: _value(row.ours))
    cells = [setting, f"{_value(row.ours):.3g} {unit}", _name(row)]
    for key in ("published", "after_window"):
        method = min(theirs, key=lambda m: theirs[m][key])
        cells += [f"{theirs[method][key]:.3g} {unit}", method]
    return _line(cells)


def _ranking(
    setting: str, unit: str, ours: list[PaperRow], theirs: dict[str, dict[str, float]]
) -> str:
    """All methods of one set, the best first, ours and theirs alike."""
    found: list[tuple[float, list[str]]] = []
    for row in ours:
        value = _value(row.ours)
        found.append((value, [_name(row), "here", _number(value), "", _spread(row)]))
    for method, scores in theirs.items():
        value, told = scores["after_window"], scores["published"]
        found.append((value, [method, "published", _number(value), _number(told), ""]))
    head = (
        f"### {setting[0].upper()}{setting[1:]}: RMSE, {unit}\n\n"
        "| method | by | after 50 steps | as published | repetitions of the whole |\n"
        "|---|---|--:|--:|---|\n"
    )
    return head + "\n".join(_line(cells) for _, cells in sorted(found, key=lambda pair: pair[0]))


def _spread(row: PaperRow) -> str:
    if row.seeds == 1:
        return "1"
    return f"{row.seeds}: {_number(row.low)} to {_number(row.high)}"


def _others(papers: Iterable[Paper]) -> str:
    """The best row per set and figure, where others printed a number."""
    lines = []
    for paper in papers:
        if paper.name not in FOLDERS:
            continue
        rows = [row for row in paper.rows if isinstance(row.published, int | float)]
        for key in dict.fromkeys((row.setting, row.unit) for row in rows):
            among = [row for row in rows if (row.setting, row.unit) == key and row.ours is not None]
            if not among:
                continue
            sign = 1 if among[0].better == "lower" else -1
            mine = min(among, key=lambda row: sign * _value(row.ours))
            best = min(among, key=lambda row: sign * _value(row.published))
            mark = " †" * mine.scaled
            cells = [*key, _number(mine.ours) + mark, mine.method]
            lines.append(_line([*cells, _number(best.published), best.method, best.source]))
    return "\n".join(lines)


def _value(value: float | str | None) -> float:
    return float("inf") if value is None else float(value)


def _number(value: float | str | None) -> str:
    return f"{_value(value):.4g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
