"""Polyphonic music: predict the next notes of Bach's chorales."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.tasks.base import Batch, Batches, Better, Score, Sizes, Split, epoch_generator
from steadygrad.tasks.benchmark import Measured
from steadygrad.tasks.datasets import DataFile, read_file

NATS_A_FRAME = "nats per frame"
NOTES = 88
LOWEST = 21  # MIDI number of the lowest key of a piano
_FILE = DataFile(
    "jsb_chorales/jsb-chorales-quarter.json",
    "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91",
    "https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/"
    "9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d/jsb-chorales-quarter.json",
)
_SHIFTED = (slice(None, -1), slice(1, None))  # frames, and their successors
_PARTS: Mapping[Split, str] = {"train": "train", "val": "valid", "test": "test"}


@final
@dataclass(frozen=True)
class Chorales(Measured):
    r"""Predict which of 88 notes sound in the next quarter note, after each one.

    229 chorales to train on, 76 to validate, 77 to test. The loss of a frame is the sum over the
    notes of their binary cross-entropies, the mean is over frames, as in the papers. Chorales of a
    batch are padded to the longest; padding is not scored.

    Shapes:
        Inputs ``(T, B, 88)``, 0 or 1; targets the same, NaN where a chorale has ended.

    Baseline:
        Each note at its frequency in the training part. Solved by fewer nats than each note at
        its frequency after itself, sounding or silent.

    References:
        Boulanger-Lewandowski, Bengio and Vincent, *Modeling Temporal Dependencies in
        High-Dimensional Sequences*, 2012.
    """

    name: ClassVar[str] = "chorales"
    every_step: ClassVar[bool] = True
    better: ClassVar[Mapping[str, Better]] = {NATS_A_FRAME: "lower"}

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=NOTES, outputs=NOTES, steps=max(len(s) for s in _rolls("train")) - 1)

    @property
    def no_memory(self) -> Mapping[str, float]:
        return self.scored("frequency")

    def naive(self, split: Split) -> list[Score]:
        answers = {"frequency": False, "frequency after itself": True}
        return [
            Score(name, _by_frequency(_PARTS[split], after_itself), NATS_A_FRAME, "lower")
            for name, after_itself in answers.items()
        ]

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        rolls = _rolls(_PARTS[split])
        order = list(range(len(rolls)))
        if shuffle is not None:
            generator = epoch_generator(shuffle)
            order = torch.randperm(len(rolls), generator=generator).tolist()
        return _Chorales(rolls, [order[i : i + size] for i in range(0, len(order), size)])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        nats, frames = _nats(outputs, targets)
        return nats / frames

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.stack(_nats(outputs.double(), targets.double()))

    def figures(self, total: Tensor) -> dict[str, float]:
        nats, frames = total.tolist()
        return {NATS_A_FRAME: nats / frames if frames else math.nan}


def _nats(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    there = ~targets[..., 0].isnan()
    nats = F.binary_cross_entropy_with_logits(outputs[there], targets[there], reduction="sum")
    return nats, there.sum().to(nats.dtype)


@final
@dataclass(frozen=True)
class _Chorales(Batches):
    rolls: list[Tensor]
    cut: list[list[int]]

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, index: int) -> Batch:
        rows = [self.rolls[i] for i in self.cut[index]]
        inputs = torch.nn.utils.rnn.pad_sequence([r[:-1] for r in rows])
        targets = torch.nn.utils.rnn.pad_sequence([r[1:] for r in rows], padding_value=torch.nan)
        return Batch(inputs, targets)


@lru_cache(maxsize=8)
def _by_frequency(part: str, after_itself: bool) -> float:
    """Nats per frame if each note is predicted by its frequency in the training part."""
    before, then = (torch.cat([s[at] for s in _rolls("train")]).double() for at in _SHIFTED)
    known, asked = (torch.cat([s[at] for s in _rolls(part)]).double() for at in _SHIFTED)
    if not after_itself:
        before, known = torch.zeros_like(before), torch.zeros_like(known)
    p = torch.zeros_like(asked)
    for was in (0.0, 1.0):
        seen = before == was
        share = ((then * seen).sum(0) + 0.5) / (seen.sum(0) + 1)
        p += (known == was) * share
    return -(asked * p.log() + (1 - asked) * (1 - p).log()).sum(1).mean().item()


@lru_cache(maxsize=4)
def _rolls(part: str) -> list[Tensor]:
    """Each chorale as ``(frames, 88)``."""
    rolls = []
    for chorale in json.loads(read_file(_FILE))[part]:
        roll = torch.zeros(len(chorale), NOTES)
        for frame, notes in enumerate(chorale):
            roll[frame, [n - LOWEST for n in notes]] = 1.0
        rolls.append(roll)
    return rolls
