"""Handwritten digits, read pixel by pixel: a long lag between the first rows and the answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from steadygrad.errors import InputError
from steadygrad.tasks.base import Better, Score, Sizes, Split
from steadygrad.tasks.labelled import Labelled
from steadygrad.tasks.scoring import WRONG

CLASSES, SIDE = 10, 8
TRAIN, VAL = 0.6, 0.2  # shares; the rest is the test part
UNIT = "% correct"


@final
@dataclass(frozen=True)
class Pixels(Labelled):
    """Classify a digit from the pixels of its image, shown one by one, row by row.

    scikit-learn's 1797 images of 8 × 8 pixels, divided by their largest value, 16. The answer is
    read after the last pixel, so the gradient has to reach from there back to the first row. The
    images are split once, at random with a seed of its own: 60 % train, 20 % validation, 20 %
    test. The split does not depend on the seed of a run.

    Shapes:
        Inputs ``(64, B, 1)`` from 0 to 1; targets ``(B,)``.

    Baseline:
        Always answering the digit that is most frequent in the training part, about 10 %. Solved
        at 95 %.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 4.2 (reading MNIST pixel by pixel).
        Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
        Repository, 1998 (these 8 × 8 images, as scikit-learn ships them).
    """

    name: ClassVar[str] = "digits"
    better: ClassVar[Mapping[str, Better]] = {UNIT: "higher"}
    solved_if: ClassVar[tuple[str, float] | None] = (UNIT, 95.0)
    ends_when_solved: ClassVar[bool] = False

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=1, outputs=CLASSES, steps=SIDE**2)

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the end of the first row of pixels."""
        return self.time_steps - SIDE

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {UNIT: 100 - super().no_memory[WRONG]}

    def facts(self) -> dict[str, object]:
        parts = {s: len(self.part(s)[1]) for s in ("train", "val", "test")}
        return super().facts() | {"images": sum(parts.values()), "classes": CLASSES, **parts}

    def part(self, split: Split) -> tuple[Tensor, Tensor]:
        x, y = _images()
        rows = split_rows(split)
        return x[rows], y[rows]

    def figures(self, total: Tensor) -> dict[str, float]:
        return {UNIT: 100 - super().figures(total)[WRONG]}

    def naive(self, split: Split) -> list[Score]:
        usual = self.part("train")[1].mode().values
        share = (self.part(split)[1] == usual).double().mean().item()
        return [Score(f"always {usual.item()}", 100 * share, UNIT, "higher")]


def split_rows(split: Split) -> Tensor:
    """Indices of the images of ``split``, in the order drawn."""
    images = len(_images()[1])
    order = torch.randperm(images, generator=Generator().manual_seed(0))
    first, last = (round(images * share) for share in (TRAIN, TRAIN + VAL))
    return {"train": order[:first], "val": order[first:last], "test": order[last:]}[split]


@lru_cache(maxsize=1)
def _images() -> tuple[Tensor, Tensor]:
    """Images ``(N, 64, 1)`` and digits ``(N,)`` from scikit-learn, without network access.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        # optional, and slow to import
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the digits come with scikit-learn, which is not installed; "
            "install it with: pip install 'steadygrad[demo]'"
        ) from error
    images, digits = load_digits(return_X_y=True)
    x = torch.as_tensor(images / 16, dtype=torch.float32)
    return x.unsqueeze(-1), torch.as_tensor(digits)
