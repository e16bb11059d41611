"""Handwritten digits, one pixel at a time: the first row must be remembered to the last."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import (
    Batch,
    Batches,
    Better,
    InputError,
    Score,
    Split,
    Task,
    epoch_generator,
)

CLASSES = 10
TRAIN, VAL = 0.6, 0.2  # the rest is the test part
UNIT = "% correct"


@final
@dataclass(frozen=True, eq=False)
class Pixels(Task):
    """Name a digit from the pixels of its image, shown one by one, row by row.

    The answer is read after the last pixel, so the gradient has to travel from there back to
    the first row. The images are split once, at random with a seed of its own: 60 % train,
    20 % validation, 20 % test. The split does not depend on the seed of a run.

    Args:
        x: Pixels from 0 to 1 in reading order, ``(images, T)``.
        y: Digits, ``(images,)``.
        order: The images in the order in which the parts are cut from them.
        side: Pixels of a row.

    Baseline:
        Always answering the digit that is most frequent in the training part, about 10 %.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 4.2 (reading MNIST pixel by pixel).
        Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
        Repository, 1998 (these 8 × 8 images, as scikit-learn ships them).
    """

    x: Tensor
    y: Tensor
    order: Tensor
    side: int
    notes: tuple[str, ...] = ("pixels divided by their largest value, 16",)

    input_kind: ClassVar = "values"
    every_step: ClassVar = False
    better: ClassVar[Mapping[str, Better]] = {UNIT: "higher"}

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return CLASSES

    @property
    def time_steps(self) -> int:
        return self.x.shape[1]

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps from the answer back to the end of the first row of pixels."""
        return self.time_steps - self.side

    def facts(self) -> dict[str, object]:
        parts: dict[str, object] = {s: len(self.part(s)) for s in ("train", "val", "test")}
        return {"images": len(self.x), "time_steps": self.time_steps, "classes": CLASSES} | parts

    def part(self, split: Split) -> Tensor:
        """Indices of the images of ``split``."""
        cuts = [round(len(self.x) * share) for share in (TRAIN, TRAIN + VAL)]
        first, last = {
            "train": (0, cuts[0]),
            "val": (cuts[0], cuts[1]),
            "test": (cuts[1], len(self.x)),
        }[split]
        return self.order[first:last]

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        images = self.part(split)
        if shuffle is not None:
            generator = epoch_generator(shuffle)
            images = images[torch.randperm(len(images), generator=generator)]
        return _Images(self.x, self.y, images.split(size))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        right = (outputs.argmax(-1) == targets).sum()
        return torch.stack([right, right.new_tensor(len(targets))]).double()

    def figures(self, total: Tensor) -> dict[str, float]:
        right, count = total.tolist()
        return {UNIT: 100 * right / count}

    def naive(self, split: Split) -> list[Score]:
        usual = self.y[self.part("train")].mode().values
        share = (self.y[self.part(split)] == usual).double().mean().item()
        return [Score(f"always {usual.item()}", 100 * share, UNIT, "higher")]


@final
@dataclass(frozen=True)
class _Images(Batches):
    x: Tensor
    y: Tensor
    cut: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, index: int) -> Batch:
        images = self.cut[index]
        return Batch(self.x[images].T.unsqueeze(-1), self.y[images])


def read_pixels() -> Pixels:
    """Load scikit-learn's 1797 digits of 8 × 8 pixels; they come with it, no network is needed.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        # Optional, and slow to import: only who asks for this task pays for it.
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the digits come with scikit-learn, which is not installed; "
            "install it with: pip install 'steadygrad[demo]'"
        ) from error
    images, digits = load_digits(return_X_y=True)
    x = torch.as_tensor(images / 16, dtype=torch.float32)
    order = torch.randperm(len(x), generator=Generator().manual_seed(0))
    return Pixels(x, torch.as_tensor(digits), order, side=8)
