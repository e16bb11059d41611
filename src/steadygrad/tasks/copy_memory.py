"""Copy memory: repeat the symbols shown, in order, after a long gap."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from steadygrad.tasks.recall import Copying

Form = Literal["arjovsky", "tcn", "geotorch", "henaff"]


@final
@dataclass(frozen=True)
class CopyMemory(Copying):
    r"""Recall ``recall`` symbols after ``length`` blanks, in order.

    A sequence has ``T + 2S`` steps with ``S`` symbols, and the cross-entropy is the mean over all
    of them; the forms differ in the place of the delimiter and of the targets. Scores are
    comparable within one form only.

    - ``"arjovsky"``: the symbols, ``T - 1`` blanks, one delimiter, ``S`` blanks. Targets are ``T +
    S`` blanks, then the symbols. - ``"tcn"``: as before, with the delimiter shown from the end of
    the blanks to the end of the
      sequence, so that the network need not count.
    - ``"geotorch"``: the symbols, ``T`` blanks, one delimiter, ``S - 1`` blanks. The symbols are
    targets at the same steps as in ``"arjovsky"``, but the delimiter stands one
      step later: the first is due at the delimiter.
    - ``"henaff"``, of variable length: the delimiter stands, in each sequence anew, in any of the
      steps ``S + 1`` to ``S + T`` (the first step being 1), the ``S`` steps after it are for the
      symbols, and all others are blank. There is no fixed lag, to which a rotation could be tuned.

    Args:
        length: ``T``, from 2.
        symbols: Different symbols, ``K``.
        recall: Symbols to be recalled, ``S``.
        form: Which of the four.

    Shapes:
        Inputs one-hot ``(T + 2S, B, K + 2)`` (symbols, blank, delimiter); targets
        ``(T + 2S, B)``, class ``K`` for a blank.

    Baseline:
        Blanks, and a guess where symbols are due: :math:`S \ln K / (T + 2S)` nats per step in
        every form (in ``"henaff"``, of a model that remembers the delimiter for ``S`` steps, and
        no symbol). Solved at 99 % of the symbols.

    References:
        Arjovsky, Shah and Bengio, *Unitary Evolution Recurrent Neural Networks*, 2016,
        section 5.1. Bai, Kolter and Koltun, *An Empirical Evaluation of Generic Convolutional
        and Recurrent Networks for Sequence Modeling*, 2018 (``"tcn"``, as in its code).
        Lezcano-Casado and Martínez-Rubio, *Cheap Orthogonal Constraints in Neural Networks*, 2019
        (``"geotorch"``, as in the example of the authors' library GeoTorch).
        Henaff, Szlam and LeCun, *Recurrent Orthogonal Networks and Long-Memory Tasks*, 2016
        (``"henaff"``, their variable-length copy).
    """

    length: int = 100
    symbols: int = 8
    recall: int = 10
    form: Form = "arjovsky"

    name: ClassVar[str] = "copy"

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 2, "at least 2 steps")
        self.expect("symbols", self.symbols >= 2, "at least 2")
        self.expect("recall", self.recall >= 1, "at least 1")
        self.expect("form", self.form in get_args(Form), " or ".join(get_args(Form)))

    @property
    def shown(self) -> int:
        return self.recall

    @property
    def kinds(self) -> int:
        return self.symbols

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps between a symbol and its repetition; of variable length, the median."""
        return self.recall + (self.length // 2 + 1 if self.form == "henaff" else self.length)

    def draw(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        inputs, targets = self.drawn(size, generator, to_end=self.form == "tcn")
        if self.form in ("arjovsky", "tcn"):
            return inputs, targets
        symbols = targets[-self.recall :]
        at = torch.full((size,), self.recall + self.length)
        if self.form == "henaff":
            at = self.recall + torch.randint(self.length, (size,), generator=generator)
            places = at + 1 + torch.arange(self.recall)[:, None]
            targets = torch.full_like(targets, self.symbols).scatter_(0, places, symbols)
        codes = torch.full_like(targets, self.symbols)
        codes[: self.recall] = symbols
        codes.scatter_(0, at[None], self.symbols + 1)
        return one_hot(codes, self.input_size).to(inputs.dtype), targets
