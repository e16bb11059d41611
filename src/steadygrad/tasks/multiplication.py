"""The multiplication problem: as adding, with a product."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Generator, Tensor

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.marked import marked_first_pair, marked_pairs
from steadygrad.tasks.synthetic import SQUARED_ERROR, WRONG, Regression

Form = Literal["martens", "hochreiter"]


@final
@dataclass(frozen=True)
class Multiplication(Regression):
    r"""Multiply two marked numbers of a sequence, after its last step.

    Lengths and marks as in `Adding` of the same form; numbers are :math:`U(0, 1)` in both, and a
    marked first pair counts :math:`X_1 = 1` (``"hochreiter"``).

    Args:
        length: ``T``, from 20.
        form: ``"martens"`` (as Pascanu et al. use it) or ``"hochreiter"``.

    Shapes:
        Inputs ``(T, B, 2)``, the number and its marker; targets ``(B, 1)``.

    Baseline:
        A constant 1/4 has a mean squared error of :math:`1/9 - 1/16 = 7/144`; a little more with
        ``"hochreiter"``, where one product in ten is of one number. Wrong above a
        squared error of 0.04, or from an error of 0.04 (``"hochreiter"``); solved at 1 % wrong.

    References:
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, supplement. Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997, experiment 5.
    """

    length: int = 50
    form: Form = "martens"

    name: ClassVar[str] = "multiplication"
    solved_if: ClassVar[tuple[str, float] | None] = (WRONG, 1.0)

    def __post_init__(self) -> None:
        self.expect("form", self.form in ("martens", "hochreiter"), "martens or hochreiter")
        self.expect("length", self.length >= 20, "at least 20 steps")

    @property
    def wrong_above(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 0.04**2 if self.form == "hochreiter" else 0.04

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=2, outputs=1, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the median place of the first mark."""
        return self.length - self.length // 20

    @property
    def no_memory(self) -> Mapping[str, float]:
        # With these probabilities one of the two numbers is the neutral 1.
        first, second = marked_first_pair(self.length) if self.form == "hochreiter" else (0, 0)
        neutral = first + second
        mean = neutral / 2 + (1 - neutral) / 4
        return {SQUARED_ERROR: neutral / 3 + (1 - neutral) / 9 - mean**2}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        inputs, first, second = marked_pairs(
            self.length, self.form, size, generator, neutral=1.0, low=0.0
        )
        return inputs, (first * second)[:, None]
