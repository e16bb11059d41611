"""The interface of a task: batches that can be resumed anywhere, scores, and naive answers."""

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
BLOCKS = 20  # stretches of the test part, over which the noise is estimated
BEYOND = 2.1  # standard errors: two-sided 95 % quantile of Student's t for 20 blocks


@dataclass(frozen=True)
class Score:
    """One score.

    Args:
        name: The model, or the name of a naive answer.
        value: The value.
        unit: The measure and its unit.
        better: Which direction is better.
        ours: Whether this is the score of the trained model.
        learnt: Whether it is that of another model fitted to the training part, which is not a
            naive answer.
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
    """By how much the model beats the best simple answer, and whether that is beyond noise.

    Args:
        rival: Name of that answer.
        gain: By how much the model's figure is lower, as a share of the rival's.
        t: Mean difference of the losses (squared errors, bits) over its standard error, by blocks
            of the test part; None: too few windows to tell.
        blocks: How many blocks.
        is_sure: Whether the difference is beyond noise.
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
        """Compare the losses of two answers by blocks of the test part, in order of time.

        Args:
            rival: Name of the other answer.
            ours: Losses of the model: squared errors, or bits.
            theirs: Losses of the other.
            blocks: Number of stretches of the test part; with fewer than 5 noise is not estimated.
            beyond: The value of ``t`` beyond which the difference is beyond noise.
            figure: The figure compared: the RMSE is the root of the mean loss, any other figure
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
        """The comparison in one sentence."""
        if self.t is None:
            noise = "too few test windows to tell this from noise"
        elif self.is_sure:
            noise = f"beyond noise (t = {self.t:.1f} over {self.blocks} stretches of the test part)"
        else:
            noise = f"within noise (t = {self.t:.1f} over {self.blocks} stretches of the test part)"
        share = f"{abs(self.gain):.1%}".replace("%", " %")
        size = f"{share} {'lower' if self.gain >= 0 else 'higher'} than"
        if self.gain < -1:  # 231 times is easier to read than 23,000 % higher
            size = f"{1 - self.gain:,.1f} times"
        if share == "0.0 %":
            size = "within 0.1 % of"
        return (
            f"the model's {self.figure} is {size} that of the best simple answer"
            f" ({self.rival}): {noise}"
        )


@dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs and outputs of a task.

    Args:
        inputs: Features of the input, or the number of symbols.
        outputs: Numbers in one answer, or the number of symbols.
        steps: Time steps ``T`` of a training batch.
    """

    inputs: int
    outputs: int
    steps: int


def epoch_generator(shuffle: tuple[int, int]) -> Generator:
    """The generator for the order of one epoch; ``shuffle=(seed, epoch)`` as in `Task.batches`."""
    seed, epoch = shuffle
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one training step.

    Args:
        inputs: Values ``(T, B, I)``, or symbol codes ``(T, B)``.
        targets: The targets, as the task's `loss` expects them: ``(B, ...)``, or ``(T, B)``.
        fresh: Whether the state starts at zero; otherwise it is carried over from the batch before.
    """

    inputs: Tensor
    targets: Tensor
    fresh: bool = True

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``."""
        return Batch(self.inputs.to(device), self.targets.to(device), self.fresh)


class Batches(ABC):
    """A lazy sequence of the batches of a split; a resumed run can start at any index."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Batch: ...

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class Task(ABC):
    """A task: its data, its measure and its naive answers."""

    input_kind: ClassVar[Literal["values", "symbols"]]
    every_step: ClassVar[bool]  # whether to answer at each time step, or only after the last
    is_image: ClassVar[bool] = False  # whether the time steps are the columns of an image
    better: ClassVar[Mapping[str, Better]]  # unit -> better direction; the first unit decides
    notes: tuple[str, ...]  # how the data were prepared, one sentence each

    @property
    def required_lag(self) -> int | None:
        """Steps back that the gradient must reach; None if the task does not know."""
        return None

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """Sizes of inputs and outputs."""

    @property
    def input_size(self) -> int:
        """Features of the input, or the number of symbols."""
        return self.sizes.inputs

    @property
    def output_size(self) -> int:
        """Numbers in one answer, or the number of symbols."""
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
        """Return the mean loss to minimise, a scalar."""

    @abstractmethod
    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return float64 sums that add up over batches; the last entry counts the answers."""

    @abstractmethod
    def figures(self, total: Tensor) -> dict[str, float]:
        """Turn a summed `tally` into figures, one per unit of `better`."""

    @abstractmethod
    def naive(self, split: Split) -> list[Score]:
        """Score every naive answer on the same targets as the model."""

    def data_spec(self) -> Mapping[str, Any] | None:
        """Return what a trained model must know about its data to be used again, as JSON values.

        Includes its ``kind``; None if the task was not made from a file.
        """
        return None

    def margin(self, predict: Callable[[Batch], Tensor]) -> Margin | None:
        """Compare the model with the best simple answer; None if the task does not support it.

        Args:
            predict: Returns the model's outputs for a batch; batches with a carried state come in
                order.
        """
        return None

    def scores(self, name: str, total: Tensor) -> list[Score]:
        """Return the model's scores from a summed `tally`."""
        figures = self.figures(total)
        return [Score(name, figures[u], u, way, ours=True) for u, way in self.better.items()]
