"""Sequential MNIST: one pixel at a time, in row order or in a fixed random order."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Sizes, Split
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.labelled import Labelled
from steadygrad.tasks.scoring import WRONG

_HOME = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_PARTS: Mapping[Split, tuple[str, int, int]] = {
    "train": ("train", 0, 50_000),
    "val": ("train", 50_000, 60_000),
    "test": ("t10k", 0, 10_000),
}
PERMUTATION_SEED = 92916  # of the permutation; each paper has its own


@final
@dataclass(frozen=True)
class PixelMNIST(Labelled):
    r"""Classify a digit after its 784 pixels were shown one by one.

    50,000 images to train on, 10,000 to validate, the 10,000 of the test set. With ``permuted``
    all pixels are shown in one random order, the same for every image. ``pool`` averages squares
    of pixels first, ``images`` limits the training images; scores of a scaled-down task are not
    comparable with those of the papers.

    Args:
        permuted: In a fixed random order.
        pool: Side of the squares that are averaged: 1, 2, 4 or 7.
        images: Training images.

    Shapes:
        ``T`` = 784 / pool²: inputs ``(T, B, 1)`` from 0 to 1; targets ``(B,)``.

    Baseline:
        Always the commonest digit of the training part, about 89 % wrong. Solved at 5 % wrong, or
        10 % if permuted.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 4.2.
        LeCun, Bottou, Bengio and Haffner, *Gradient-Based Learning Applied to Document
        Recognition*, 1998 (the images).
    """

    permuted: bool = False
    pool: int = 1
    images: int = 50_000

    name: ClassVar[str] = "mnist"
    ends_when_solved: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.expect("pool", self.pool in (1, 2, 4, 7), "1, 2, 4 or 7")
        self.expect("images", 1 <= self.images <= 50_000, "from 1 to 50,000")

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=1, outputs=10, steps=(28 // self.pool) ** 2)

    @property
    def solved_if(self) -> tuple[str, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return WRONG, 10.0 if self.permuted else 5.0

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Back to the first third of the pixels, most of which is margin."""
        return self.time_steps * 2 // 3

    def part(self, split: Split) -> tuple[Tensor, Tensor]:
        part, first, last = _PARTS[split]
        last = min(last, self.images) if split == "train" else last
        return _images(part, self.pool)[first:last], _labels(part)[first:last]

    def shown(self, x: Tensor) -> Tensor:
        pixels = x.float() / 255
        return pixels[:, permutation(pixels.shape[1])] if self.permuted else pixels


@lru_cache(maxsize=8)
def permutation(steps: int) -> Tensor:
    """The order in which permuted pixels are shown."""
    return torch.randperm(steps, generator=torch.Generator().manual_seed(PERMUTATION_SEED))


def _raw(name: str) -> bytes:
    return read_file(DataFile(f"mnist/{name}", _FILES[name], f"{_HOME}{name}.gz"))


@lru_cache(maxsize=2)
def _labels(part: str) -> Tensor:
    data = _raw(f"{part}-labels-idx1-ubyte")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=8).copy()).long()


@lru_cache(maxsize=4)
def _images(part: str, pool: int) -> Tensor:
    """Pixels ``(images, T, 1)``; bytes, unless they were averaged."""
    data = _raw(f"{part}-images-idx3-ubyte")
    (count,) = struct.unpack(">I", data[4:8])
    pixels = torch.from_numpy(np.frombuffer(data, np.uint8, offset=16).copy())
    pixels = pixels.view(count, 1, 28, 28)
    if pool > 1:
        pixels = F.avg_pool2d(pixels.float(), pool)
    return pixels.flatten(1).unsqueeze(-1)
