"""MNIST, one pixel at a time, in reading order or in a fixed random one."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Batch, Batches, Split, epoch_generator
from steadygrad.tasks.benchmark import Benchmark
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.scoring import NATS, WRONG, ClassScores

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
PERMUTATION_SEED = 92916  # each paper has its own; this one is ours


@final
@dataclass(frozen=True)
class PixelMNIST(ClassScores, Benchmark):
    r"""Name a digit after its 784 pixels were shown one by one.

    50,000 images to train on, 10,000 to validate, the 10,000 of the test set. With ``permuted``
    all pixels are shown in one random order, the same for every image. ``pool`` averages squares
    of pixels first, ``images`` trains on so many images: a scaled-down task has scores of its
    own, not to be put beside those of the papers.

    Args:
        permuted: In a fixed random order.
        pool: Side of the squares that are averaged: 1, 2, 4 or 7.
        images: Training images.

    Shapes:
        ``T`` = 784 / pool²: inputs ``(T, B, 1)`` from 0 to 1; targets ``(B,)``.

    Baseline:
        Always the commonest digit of the training part, about 89 % wrong.

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

    def __post_init__(self) -> None:
        self.expect("pool", self.pool in (1, 2, 4, 7), "1, 2, 4 or 7")
        self.expect("images", 1 <= self.images <= 50_000, "from 1 to 50,000")

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 10

    @property
    def time_steps(self) -> int:
        return (28 // self.pool) ** 2

    @property
    def required_lag(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Back to the first third of the pixels: above it there is little but margin."""
        return self.time_steps * 2 // 3

    @property
    def no_memory(self) -> Mapping[str, float]:
        labels = self._labels("train")
        usual = labels.mode().values
        share = labels.bincount(minlength=10).double() / len(labels)
        nats = -(share[self._labels("test")].log()).mean().item()
        wrong = (self._labels("test") != usual).double().mean().item()
        return {WRONG: 100 * wrong, NATS: nats}

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        labels = self._labels(split)
        order = torch.arange(len(labels))
        if shuffle is not None:
            generator = epoch_generator(shuffle)
            order = order[torch.randperm(len(order), generator=generator)]
        return _Images(self._pixels(split), labels, order.split(size), self.permuted)

    def _labels(self, split: Split) -> Tensor:
        part, first, last = _PARTS[split]
        return _labels(part)[first : min(last, self.images) if split == "train" else last]

    def _pixels(self, split: Split) -> Tensor:
        part, first, _ = _PARTS[split]
        return _images(part, self.pool)[first : first + len(self._labels(split))]


@final
@dataclass(frozen=True)
class _Images(Batches):
    pixels: Tensor
    labels: Tensor
    cut: tuple[Tensor, ...]
    permuted: bool

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, index: int) -> Batch:
        images = self.cut[index]
        x = self.pixels[images].T.float() / 255
        if self.permuted:
            x = x[permutation(len(x))]
        return Batch(x.unsqueeze(-1), self.labels[images])


@lru_cache(maxsize=8)
def permutation(steps: int) -> Tensor:
    """The order in which permuted pixels are shown."""
    return torch.randperm(steps, generator=torch.Generator().manual_seed(PERMUTATION_SEED))


def _raw(name: str) -> bytes:
    path = f"mnist/{name}.gz"
    return read_file(DataFile(path, _FILES[name], f"{_HOME}{name}.gz"))


@lru_cache(maxsize=2)
def _labels(part: str) -> Tensor:
    data = _raw(f"{part}-labels-idx1-ubyte")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=8).copy()).long()


@lru_cache(maxsize=4)
def _images(part: str, pool: int) -> Tensor:
    """Pixels ``(images, T)``; bytes, unless they were averaged."""
    data = _raw(f"{part}-images-idx3-ubyte")
    (count,) = struct.unpack(">I", data[4:8])
    pixels = torch.from_numpy(np.frombuffer(data, np.uint8, offset=16).copy())
    pixels = pixels.view(count, 1, 28, 28)
    if pool > 1:
        pixels = F.avg_pool2d(pixels.float(), pool)
    return pixels.flatten(1)
