"""What is printed of the scores names every answer that is better than the model's."""

from pathlib import Path
from typing import Any

from steadygrad.cli.score_table import print_scores
from steadygrad.tasks.base import Score
from steadygrad.train import Outcome

BITS = "bits per symbol"


class Lines(list[str]):
    """A console that keeps what is printed."""

    def print(self, text: object, **_: Any) -> None:
        self.append(str(text))


def printed(ours: float) -> str:
    scores = (
        Score("lstm", ours, BITS, "lower", ours=True),
        Score("unigram", 4.8, BITS, "lower"),
        Score("5-gram", 2.8, BITS, "lower", learnt=True),
        Score("xz", 2.5, BITS, "lower", learnt=True),
    )
    given: Any = ("finished", "healthy", scores, True, "done", 9, 1.0, Path("run.db"), None, (), ())
    outcome = Outcome(
        *given,
        margin="the model's bits are 8 % lower than those of the best simple answer (5-gram)",
    )
    console: Any = Lines()
    print_scores(console, outcome)
    return "\n".join(console)


def test_a_compressor_that_needs_fewer_bits_is_named() -> None:
    assert "better than the model's 2.6 bits per symbol: xz 2.5" in printed(2.6)
    assert "better than the model's" not in printed(2.4)
