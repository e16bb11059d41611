"""Temporal order: classify the order of a few rare symbols."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Sizes
from steadygrad.tasks.synthetic import Classification, chance

Form = Literal["code", "supplement", "hochreiter"]
Span = tuple[float, float]
PLACES: Mapping[tuple[str, int], tuple[Span, ...]] = {
    ("code", 2): ((0.1, 0.2), (0.5, 0.6)),
    ("code", 3): ((0.1, 0.2), (0.3, 0.4), (0.6, 0.7)),
    ("supplement", 2): ((0.1, 0.2), (0.4, 0.5)),
    ("supplement", 3): ((0.1, 0.2), (0.3, 0.4), (0.6, 0.7)),
    ("hochreiter", 2): ((0.1, 0.2), (0.5, 0.6)),
    ("hochreiter", 3): ((0.1, 0.2), (0.33, 0.43), (0.66, 0.76)),
}
DISTRACTORS = 4


@final
@dataclass(frozen=True)
class TemporalOrder(Classification):
    r"""Classify the order of informative symbols among distractors, after the last step.

    Each informative symbol is A or B. The first stands in :math:`[T/10, 2T/10)`, the second of
    two in :math:`[5T/10, 6T/10)`: as in the released code of Pascanu et al. (``"code"``), while
    their supplement has :math:`[4T/10, 5T/10]` (``"supplement"``). With three, the intervals begin
    at 1, 3 and 6 tenths. ``"hochreiter"`` has 1/10, 1/3 and 2/3 for three, a first and a last
    symbol of their own, and a length of ``T`` to ``1.1 T``.

    Args:
        length: ``T``, from 10.
        symbols: 2 (four classes) or 3 (eight classes).
        form: Places of the symbols.

    Shapes:
        Inputs one-hot ``(T, B, 6)`` (A, B, four distractors), or ``(T, B, 8)`` with a start and
        an end symbol; targets ``(B,)``, :math:`v_0 + 2 v_1 (+ 4 v_2)` with A = 0.

    Baseline:
        :math:`\ln 4` or :math:`\ln 8` nats; a model that remembers only the last symbol has
        :math:`\ln 2` less. Solved at 1 % wrong, as in Pascanu et al.

    References:
        Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997, experiments 6a and 6b.
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, section 4.1.1 and supplement.
    """

    length: int = 50
    symbols: Literal[2, 3] = 2
    form: Form = "code"

    name: ClassVar[str] = "temporal-order"

    def __post_init__(self) -> None:
        self.expect("symbols", self.symbols in (2, 3), "2 or 3")
        self.expect("form", (self.form, 2) in PLACES, "code, supplement or hochreiter")
        self.expect("length", self.length >= 10, "at least 10 steps")

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            inputs=2 + DISTRACTORS + 2 * (self.form == "hochreiter"),
            outputs=2**self.symbols,
            steps=self.length,
        )

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the median place of the first symbol."""
        return self.length - 1 - int(0.15 * self.length)

    @property
    def no_memory(self) -> Mapping[str, float]:
        return chance(self.output_size)

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        steps = self.length
        if self.form == "hochreiter":
            steps += int(torch.randint(self.length // 10 + 1, (), generator=generator))
        codes = torch.randint(2, 2 + DISTRACTORS, (steps, size), generator=generator)
        rows, target = torch.arange(size), torch.zeros(size, dtype=torch.long)
        for number, (low, high) in enumerate(PLACES[self.form, self.symbols]):
            span = int(low * self.length), max(int(high * self.length), int(low * self.length) + 1)
            place = torch.randint(*span, (size,), generator=generator)
            value = torch.randint(2, (size,), generator=generator)
            codes[place, rows] = value
            target += value * 2**number
        if self.form == "hochreiter":
            codes[0], codes[-1] = 2 + DISTRACTORS, 3 + DISTRACTORS
        return F.one_hot(codes, self.input_size).float(), target
