"""A text is laid out so that nothing is lost or seen too early; counting is checked by counting."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from steadygrad.tasks import Split, Text, read_text
from steadygrad.tasks.ngrams import Ngrams

RNG = np.random.default_rng(0)
LETTERS = "".join(RNG.choice(list("abcdefgh \n"), 6000))


@pytest.fixture
def task(tmp_path: Path) -> Text:
    path = tmp_path / "a.txt"
    path.write_text(LETTERS)
    return read_text(path, window=10)


def decoded(task: Text, codes: torch.Tensor) -> str:
    return "".join(task.vocabulary[c] for c in codes.tolist())


def test_parts_are_in_order_and_whole(task: Text) -> None:
    parts: tuple[Split, ...] = ("train", "val", "test")
    assert "".join(decoded(task, task.part(p)) for p in parts) == LETTERS
    assert [len(task.part(p)) for p in parts] == [4800, 600, 600]


@pytest.mark.parametrize("shuffle", [None, (0, 0), (0, 1), (3, 5)])
def test_rows_go_on_where_they_ended_and_targets_are_one_ahead(
    task: Text, shuffle: tuple[int, int] | None
) -> None:
    batches = list(task.batches("train", 8, shuffle))
    assert [b.fresh for b in batches] == [True] + [False] * (len(batches) - 1)
    assert all(len(b.inputs) == 10 for b in batches[:-1])
    inputs = torch.cat([b.inputs for b in batches])
    targets = torch.cat([b.targets for b in batches])
    assert inputs.shape[1] == 8
    train = decoded(task, task.part("train"))
    at = 0
    for row in range(8):
        seen = decoded(task, inputs[:, row])
        start = train.index(seen, at)
        assert start == at or row == 0
        at = start + len(seen)
        assert decoded(task, targets[:, row]) == train[start + 1 : at + 1]
    assert len(train) - at < 8 + 1


def test_epochs_move_the_cuts(task: Text) -> None:
    firsts = [decoded(task, task.batches("train", 8, (0, e))[0].inputs[:, 0]) for e in range(6)]
    assert len(set(firsts)) > 1
    again = decoded(task, task.batches("train", 8, (0, 3))[0].inputs[:, 0])
    assert again == firsts[3]


def test_a_small_text_is_one_row_and_all_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("the cat and the mouse and the bell\n" * 3)
    task = read_text(path, "word", window=50)
    assert len(task.part("train")) == len(task.part("test")) == 24
    assert set(task.vocabulary) == {"the", "cat", "and", "mouse", "bell"}
    assert any("memorisation" in note for note in task.notes)
    (batch,) = task.batches("train", 64, (0, 0))
    assert batch.inputs.shape == (23, 1)


def test_symbols_first_met_after_training_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("ab" * 2000 + "xyz")
    task = read_text(path)
    assert task.vocabulary == ("a", "b", "")
    assert task.codes[-4:].tolist() == [1, 2, 2, 2]
    assert any("3 symbols" in note and "unknown" in note for note in task.notes)


def test_loss_and_figures_against_probabilities(task: Text) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 3, task.output_size, generator=generator)
    targets = torch.randint(task.output_size, (5, 3), generator=generator)
    p = outputs.softmax(-1).gather(-1, targets[..., None]).log2()
    right = (outputs.argmax(-1) == targets).double().mean().item()
    figures = task.figures(task.tally(outputs, targets))
    assert figures["bits per symbol"] == pytest.approx(-p.mean().item(), rel=1e-5)
    assert figures["next-symbol accuracy"] == pytest.approx(right)
    nats = task.loss(outputs, targets).item()
    assert nats == pytest.approx(figures["bits per symbol"] * math.log(2), rel=1e-5)


# Symbol 5 never comes. In the second, 1 has four followers and each but once, so that the commonest
# symbol, which never followed it, is the best guess.
CODES = {
    "drawn": RNG.choice(6, 200, p=[0.4, 0.3, 0.1, 0.1, 0.1, 0.0]),
    "backed off": np.array([0] * 50 + [1, 2, 1, 3, 1, 4, 1, 6] + [0] * 50),
}


@pytest.mark.parametrize("codes", CODES.values(), ids=list(CODES))
def test_ngrams_against_counting(codes: np.ndarray) -> None:
    size, n = 7, len(codes)
    ngrams = Ngrams(codes, size)
    single, pairs = (
        Counter(codes.tolist()),
        Counter(zip(codes[:-1].tolist(), codes[1:].tolist(), strict=True)),
    )
    for a in range(size):
        after = {b: n for (first, b), n in pairs.items() if first == a}
        total, kinds = sum(after.values()), len(after)
        probabilities = []
        for b in range(size):
            p1 = (single[b] + 1) / (n + size)
            p = (after.get(b, 0) + kinds * p1) / (total + kinds) if total else p1
            probabilities.append(p)
            ours = ngrams.bigram(np.array([a]), np.array([b]))[0]
            assert ours == pytest.approx(p), (a, b)
        assert sum(probabilities) == pytest.approx(1)
        assert ngrams.best[a] == int(np.argmax(probabilities))


def test_naive_answers_reach_the_entropy_of_a_chain(tmp_path: Path) -> None:
    # Each of four symbols is followed by itself with 0.7, else by the next: 0.88 bits a step.
    codes, state = [], 0
    for u in RNG.random(40_000):
        state = state if u < 0.7 else (state + 1) % 4
        codes.append("abcd"[state])
    path = tmp_path / "a.txt"
    path.write_text("".join(codes))
    scores = {(s.name, s.unit): s.value for s in read_text(path).naive("test")}
    entropy = -(0.7 * math.log2(0.7) + 0.3 * math.log2(0.3))
    assert scores["bigram", "bits per symbol"] == pytest.approx(entropy, abs=0.03)
    assert scores["bigram", "next-symbol accuracy"] == pytest.approx(0.7, abs=0.02)
    assert scores["unigram", "bits per symbol"] == pytest.approx(2, abs=0.02)
