"""Whatever a file holds: a reader ends with a result, or with an error meant for people.

The first draws of each reader; ``python -m benchmarks.reliability fuzz`` makes as many as wanted of
the same ones, drawn by number.
"""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.readers import Readers, clean, limited

FEW, MANY = 25, 1500


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYGRAD_DATA", "")  # what the readers set is taken back
        patch.chdir(Path.cwd())
        yield Readers(tmp_path_factory.mktemp("readers"))


NAMES = (
    *("spec", "packed data set", "kernel in the cache", "checkpoint, bytes", "saved step"),
    *("checkpoint, facts and tensors", "model file", "record", "record, bytes"),
    *("table of results", "TOML", "table", "text", "arguments"),
)


def test_every_reader_is_listed(readers: Readers) -> None:
    found = readers.all()
    assert sorted(reader.name for reader in found) == sorted(NAMES)
    assert sum(reader.share for reader in found) == pytest.approx(1)


@pytest.mark.parametrize(
    "numbers",
    [
        range(FEW),
        pytest.param(range(FEW, MANY), marks=pytest.mark.slow),
    ],
    ids=["few", "many"],
)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_a_result_or_words(name: str, numbers: range, readers: Readers) -> None:
    (reader,) = (r for r in readers.all() if r.name == name)
    every = 12 if name == "arguments" else 1  # each parses a whole command line
    for number in numbers[::every]:
        with limited():
            reader.draw(random.Random(f"{name} {number}"))


EDGES = (
    ["bench", ","],
    ["bench", ""],
    ["report", "/"],
    ["report", ""],
    ["check", ""],
    ["explain", "/"],
    ["train", "x" * 1_000_000],
    ["train", "wave.csv", "--seed", str(10**25)],
    ["train", "wave.csv", "--hidden", str(10**25)],
    ["train", "wave.csv", "--cell", "y" * 1_000_000],
    ["bench", "adding", "--seeds", str(10**25)],
    ["bench", "z" * 1_000_000],
    ["train", "date_and_nan.csv"],
    ["train", "wave\0.csv"],
)


@pytest.mark.parametrize("arguments", EDGES, ids=lambda a: " ".join(a)[:40])
def test_edges(
    arguments: list[str], readers: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(readers.folder / "wave.csv", tmp_path)
    Path("date_and_nan.csv").write_text("date,y\n2020-01-01,nan\n")
    clean(arguments, within=(2,))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("table", 500_000),
        ("checkpoint, facts and tensors", 500_052),
        *(("model file", n) for n in (501_768, 600_886, 603_362, 604_279, 703_092)),
    ],
)
def test_what_a_long_count_once_found(name: str, number: int, readers: Readers) -> None:
    (reader,) = (r for r in readers.all() if r.name == name)
    reader.draw(random.Random(f"{name} {number}"))
