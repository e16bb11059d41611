"""What every task promises: batches that can be taken up anywhere, a score, and naive answers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Generator, Tensor

Split = Literal["train", "val", "test"]
Better = Literal["lower", "higher"]
BLOCKS = 20  # of the test part, by which noise is judged
BEYOND = 2.1  # standard errors; of 20 blocks one in twenty differences of nothing is larger


@dataclass(frozen=True)
class Score:
    """One measured figure.

    Args:
        name: Who answered: the model, or the name of a naive answer.
        value: The figure.
        unit: What it counts, and in what.
        better: Which way is better.
        ours: Whether the trained model answered.
        learnt: Whether another model did, that was fitted to the training part: it is no naive
            answer.
    """

    name: str
    value: float
    unit: str
    better: Better
    ours: bool = False
    learnt: bool = False

    def beats(self, other: "Score") -> bool:
        """Whether this score is strictly better than ``other``; a NaN beats nothing."""
        if math.isnan(self.value):
            return False
        if self.better == "lower":
            return self.value < other.value
        return self.value > other.value


@dataclass(frozen=True)
class Margin:
    """How much better the model is than the best of the simple answers, and whether surely.

    Args:
        rival: That answer.
        gain: By how much the model's figure is lower, as a share of the rival's.
        t: Mean difference of the losses (squared errors, bits) over its standard error, by blocks
            of the test part; None: too few windows to tell.
        blocks: How many blocks.
        is_sure: Whether ``t`` is beyond noise.
        figure: What is compared.

    References:
        Diebold and Mariano, *Comparing Predictive Accuracy*, 1995 (here with block means, as
        neighbouring windows share their targets).
    """

    rival: str
    gain: float
    t: float | None
    blocks: int
    is_sure: bool
    figure: str = "RMSE"

    @classmethod
    def of(
        cls,
        rival: str,
        ours: np.ndarray,
        theirs: np.ndarray,
        *,
        blocks: int,
        beyond: float,
        figure: str = "RMSE",
    ) -> "Margin":
        """Compare the losses of two answers, piece by piece of the test part, in order of time.

        Args:
            rival: The other answer.
            ours: Of the model: squared errors, or bits.
            theirs: Of the other.
            blocks: Into how many stretches the test part is cut; of fewer than 5 noise is not told.
            beyond: What ``t`` must exceed to be beyond noise.
            figure: What is told: the RMSE is the root of the mean of the losses, any other figure
                the mean itself.
        """
        both = np.isfinite(ours) & np.isfinite(theirs)
        ours, theirs = ours[both], theirs[both]
        base = float(theirs.mean()) if len(theirs) else 0.0
        ratio = float(ours.mean()) / base if base > 0 else 1.0
        gain = 1 - (ratio**0.5 if figure == "RMSE" else ratio)
        t = None
        if blocks >= 5:
            means = np.array([part.mean() for part in np.array_split(theirs - ours, blocks)])
            spread = float(means.std(ddof=1)) / blocks**0.5
            t = float(means.mean()) / spread if spread > 0 else None
        return cls(rival, gain, t, blocks, t is not None and abs(t) > beyond, figure)

    @property
    def text(self) -> str:
        """One sentence."""
        way = "lower" if self.gain >= 0 else "higher"
        if self.t is None:
            noise = "too few test windows to tell this from noise"
        elif self.is_sure:
            noise = f"beyond noise (t = {self.t:.1f} over {self.blocks} stretches of the test part)"
        else:
            noise = f"within noise (t = {self.t:.1f} over {self.blocks} stretches of the test part)"
        size = f"{abs(self.gain):.1%}".replace("%", " %")
        return (
            f"{self.figure} {size} {way} than that of the best simple answer, {self.rival}: {noise}"
        )


@dataclass(frozen=True)
class Sizes:
    """What goes into a task and comes out of it.

    Args:
        inputs: Features of the input, or the number of symbols.
        outputs: Numbers that one answer has, or the number of symbols.
        steps: Time steps ``T`` of a training batch.
    """

    inputs: int
    outputs: int
    steps: int


def epoch_generator(shuffle: tuple[int, int]) -> Generator:
    """What the order of one epoch is drawn from; ``shuffle=(seed, epoch)`` as in `Task.batches`."""
    seed, epoch = shuffle
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one training step.

    Args:
        inputs: Values ``(T, B, I)``, or symbol codes ``(T, B)``.
        targets: What should come out, as the task's `loss` reads it: ``(B, ...)``, or ``(T, B)``.
        fresh: Whether the state starts at zero; otherwise it is carried from the batch before.
    """

    inputs: Tensor
    targets: Tensor
    fresh: bool = True

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``."""
        return Batch(self.inputs.to(device), self.targets.to(device), self.fresh)


class Batches(ABC):
    """A split cut into batches: a lazy sequence, so that a resumed run can start at any index."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Batch: ...

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class Task(ABC):
    """Something to learn, with its data, its measure and the answers that need no learning."""

    input_kind: ClassVar[Literal["values", "symbols"]]
    every_step: ClassVar[bool]  # an answer at each time step, or only after the last
    is_image: ClassVar[bool] = False  # whether the time steps are the columns of an image
    better: ClassVar[Mapping[str, Better]]  # unit -> direction; the first unit decides
    notes: tuple[str, ...]  # what was done to the data, one sentence each

    @property
    def required_lag(self) -> int | None:
        """Steps that the gradient must travel back, where the task knows it."""
        return None

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """What goes in and comes out."""

    @property
    def input_size(self) -> int:
        """Features of the input, or the number of symbols."""
        return self.sizes.inputs

    @property
    def output_size(self) -> int:
        """Numbers that one answer has, or the number of symbols."""
        return self.sizes.outputs

    @property
    def time_steps(self) -> int:
        """Time steps ``T`` of a training batch."""
        return self.sizes.steps

    @abstractmethod
    def facts(self) -> dict[str, object]:
        """Facts about the data for the record: rows, columns, filled values, splits."""

    @abstractmethod
    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        """Cut ``split`` into batches of ``size``; ``shuffle=(seed, epoch)`` fixes a new order."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss to descend, a scalar."""

    @abstractmethod
    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return float64 sums that add up over batches; the last entry counts the answers."""

    @abstractmethod
    def figures(self, total: Tensor) -> dict[str, float]:
        """Turn a summed `tally` into figures, one per unit of `better`."""

    @abstractmethod
    def naive(self, split: Split) -> list[Score]:
        """Score every naive answer on exactly the targets that the model is scored on."""

    def data_spec(self) -> Mapping[str, Any] | None:
        """Return what a trained model has to know of its data to be used again, as JSON has it.

        With its ``kind``; None where a task is not made of a file.
        """
        return None

    def margin(self, predict: Callable[[Batch], Tensor]) -> Margin | None:
        """Compare the model with the best simple answer; None where a task has no such measure.

        Args:
            predict: The model's outputs for a batch; of batches that carry a state on, in order.
        """
        return None

    def scores(self, name: str, total: Tensor) -> list[Score]:
        """Return the model's scores from a summed `tally`."""
        figures = self.figures(total)
        return [Score(name, figures[u], u, way, ours=True) for u, way in self.better.items()]
