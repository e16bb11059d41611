"""The adding problem, in the three forms used by papers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Generator, Tensor

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.marked import Marks, marked_first_pair, marked_pairs
from steadygrad.tasks.synthetic import SQUARED_ERROR, WRONG, Regression

Form = Literal["le", "martens", "hochreiter"]
MARKS: dict[str, Marks] = {"le": "halves", "martens": "martens", "hochreiter": "hochreiter"}


@final
@dataclass(frozen=True)
class Adding(Regression):
    r"""Add two marked numbers of a sequence, after its last step.

    - ``"le"``: exactly ``T`` steps; numbers :math:`U(0, 1)`; one mark in each half; the target
      is the sum. A constant 1 has a mean squared error of 1/6.
    - ``"martens"``: a length in :math:`[T, 1.1 T)`, the same for a batch; numbers
      :math:`U(0, 1)`; marks in the first tenth and from there to the middle; the target is the
      mean of the two. A constant 1/2 scores 1/24; wrong above a squared error of 0.04.
    - ``"hochreiter"``: a length in :math:`[T, T + T/10]`; numbers :math:`U(-1, 1)`; the markers
      of the first and last step are -1; marks among the first ten pairs and among the first
      :math:`T/2 - 1`; the target is :math:`1/2 + (X_1 + X_2)/4`; a marked first pair counts
      :math:`X_1 = 0`. Wrong from an error of 0.04.

    Args:
        length: ``T``, from 20.
        form: Which of the three.

    Shapes:
        Inputs ``(T, B, 2)``, the number and its marker; targets ``(B, 1)``.

    Baseline:
        1/6, 1/24, or a little less than 1/24 (``"hochreiter"``: one number in ten is zero);
        solved at a mean squared error of 0.01 (``"le"``), else at 1 % wrong.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 4.1 (``"le"``; also Arjovsky, Shah and Bengio, 2016).
        Martens and Sutskever, *Learning Recurrent Neural Networks with Hessian-Free
        Optimization*, 2011, in the form of Pascanu, Mikolov and Bengio, 2013 (``"martens"``).
        Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997, experiment 4.
    """

    length: int = 100
    form: Form = "le"

    name: ClassVar[str] = "adding"

    def __post_init__(self) -> None:
        self.expect("form", self.form in MARKS, " or ".join(MARKS))
        self.expect("length", self.length >= 20, "at least 20 steps")

    @property
    def solved_if(self) -> tuple[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (SQUARED_ERROR, 0.01) if self.form == "le" else (WRONG, 1.0)

    @property
    def wrong_above(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 0.04**2 if self.form == "hochreiter" else 0.04

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=2, outputs=1, steps=self.length)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the median place of the first mark."""
        return self.length - self.length // (4 if self.form == "le" else 20)

    @property
    def no_memory(self) -> Mapping[str, float]:
        if self.form != "hochreiter":
            return {SQUARED_ERROR: 1 / 6 if self.form == "le" else 1 / 24}
        first, second = marked_first_pair(self.length)  # its number counts as zero
        return {SQUARED_ERROR: (2 - first - second) / 3 / 16}

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        inputs, first, second = marked_pairs(self.length, MARKS[self.form], size, generator, 0.0)
        total = first + second
        target = {"le": total, "martens": total / 2, "hochreiter": 0.5 + total / 4}[self.form]
        return inputs, target[:, None]
