"""Series classification: the problems of the UCR and UEA archives."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.tasks.base import Sizes, Split
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.labelled import JudgedByNeighbour

Problem = Literal["BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels", "ACSF1"]
_SUMS = {
    "ACSF1_TEST": "93e8aaeb44a10af181d24a156e60da7021193cd990ca28f263fccf3b905bfebf",
    "ACSF1_TRAIN": "0646b90dc4843e02baed6b2ba345c5601a4991b6796565489cef1b2d92a7537b",
    "BasicMotions_TEST": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    "BasicMotions_TRAIN": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    "GunPoint_TEST": "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e",
    "GunPoint_TRAIN": "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5",
    "ItalyPowerDemand_TEST": "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
    "ItalyPowerDemand_TRAIN": "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
    "JapaneseVowels_TEST": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    "JapaneseVowels_TRAIN": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
}
_HINT = "the files come with the package aeon, in aeon/datasets/data"


@final
@dataclass(frozen=True)
class SeriesClasses(JudgedByNeighbour):
    r"""Classify a series after its last step.

    The archive's own split; a fifth of the training part, every fifth series, is set aside to
    validate on. Each channel is scaled to mean 0 and standard deviation 1 over the training
    part. Shorter series are padded with zeros at the beginning, so that each ends with its own last
    value.

    Args:
        problem: Which problem of the archive.

    Shapes:
        Inputs ``(T, B, I)``; targets ``(B,)``.

    Baseline:
        Always the commonest class of the training part. Solved by fewer wrong than the nearest
        neighbour (Euclidean, over whole series), the archive's own baseline.

    References:
        Dau et al., *The UCR Time Series Archive*, 2019. Bagnall et al., *The UEA Multivariate
        Time Series Classification Archive*, 2018.
    """

    problem: Problem = "BasicMotions"

    name: ClassVar[str] = "series-classes"

    def __post_init__(self) -> None:
        self.expect("problem", f"{self.problem}_TRAIN" in _SUMS, "a problem of the archive")

    @property
    def sizes(self) -> Sizes:
        _, steps, features = self.part("train")[0].shape
        return Sizes(features, len(_read(self.problem, "TRAIN")[2]), steps)

    def part(self, split: Split) -> tuple[Tensor, Tensor]:
        return _split(self.problem, split)


@lru_cache(maxsize=16)
def _split(problem: str, split: Split) -> tuple[Tensor, Tensor]:
    series, labels, _ = _read(problem, "TEST" if split == "test" else "TRAIN")
    training = _read(problem, "TRAIN")[0]
    values = torch.cat(training)
    mean, std = values.mean(0), values.std(0)
    steps = max(len(s) for s in training)
    if split != "test":
        kept = [i for i in range(len(series)) if (i % 5 == 4) == (split == "val")]
        series, labels = [series[i] for i in kept], labels[kept]
    x = torch.zeros(len(series), steps, len(mean))
    for row, one in enumerate(series):
        one = ((one - mean) / std)[-steps:]
        x[row, steps - len(one) :] = one
    return x, labels


@lru_cache(maxsize=16)
def _read(problem: str, part: str) -> tuple[list[Tensor], Tensor, tuple[str, ...]]:
    """Series ``(T, I)``, class numbers and class names of a ``.ts`` file."""
    name = f"{problem}_{part}"
    text = read_file(DataFile(f"ucr_uea/{name}.ts", _SUMS[name], hint=_HINT)).decode()
    head, _, body = text.partition("@data\n")
    line = next((s for s in head.splitlines() if s.lower().startswith("@classlabel")), "")
    names = tuple(line.split()[2:])
    if not names:
        raise InputError(f"{name}.ts: no line @classLabel; expected a problem of classification")
    series, labels = [], []
    for row in filter(None, map(str.strip, body.splitlines())):
        *channels, label = row.split(":")
        values = [[float(v) for v in channel.split(",")] for channel in channels]
        series.append(torch.tensor(values).T)
        labels.append(names.index(label))
    return series, torch.tensor(labels), names
