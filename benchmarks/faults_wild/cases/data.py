"""The data: its size, its axes, its padding, where it is read, what is carried over."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.faults_wild.case import Training, case
from benchmarks.faults_wild.models import EveryStep, LastStep
from benchmarks.faults_wild.tasks import padded, recalled, walks, waves

UNSCALED = "https://github.com/keras-team/keras/issues/1727"
SWAPPED = "https://github.com/pytorch/pytorch/issues/1538"
VIDEO = "https://github.com/HHTseng/video-classification/issues/42"
PPO_AXES = "https://github.com/vwxyzjn/cleanrl/pull/83"
FIRST = "https://github.com/pytorch/pytorch/issues/34036"
PADDING = "https://github.com/MaximumEntropy/Seq2Seq-PyTorch/issues/11"
SPLIT = "https://github.com/auspicious3000/SpeechSplit/issues/67"
STALE = "https://github.com/ikostrikov/pytorch-a2c-ppo-acktr-gail/issues/278"


class Walk(Training):
    """Where a random walk ends.

    Args:
        scale: What the inputs are multiplied by.
        batch_first: Whether the model takes the batch first.
        swap: ``"layout"``: the data has the batch first and the model does not; ``"view"``: the
            axes are made to fit by a view, which does not move a value.
    """

    def __init__(self, scale: float = 1.0, batch_first: bool = False, swap: str = "") -> None:
        model = LastStep("lstm", 3, batch_first=batch_first)
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))
        self.scale, self.swap = scale, swap

    def loss(self) -> Tensor:
        x, y = walks(24, 24 if self.swap else 16)
        x = self.scale * x
        if self.swap == "layout" or self.model.rnn.batch_first:
            x = x.transpose(0, 1)
        if self.swap == "view":
            x = x.transpose(0, 1).contiguous().view(24, 24, 3)
        return F.cross_entropy(self.model(x), y)


@case(UNSCALED, "input-scale", "saturated", lag=10)
def inputs_of_ten_thousand() -> Training:
    return Walk(3e4)


@case(UNSCALED, "input-scale", "saturated")
def inputs_in_dollars() -> Training:
    class Dollars(Walk):
        def loss(self) -> Tensor:
            x, y = walks(24)
            return F.cross_entropy(self.model(5e4 + 3e3 * x), y)

    return Dollars()


@case(UNSCALED, kind="healthy", lag=10)
def inputs_as_they_should_be() -> Training:
    return Walk()


@case(UNSCALED, kind="odd", lag=5)
def inputs_of_thirty() -> Training:
    return Walk(30.0)


@case(SWAPPED, "axes-swapped", lag=10, twin="batch_first_in_both")
def batch_and_time_swapped() -> Training:
    return Walk(swap="layout")


@case(VIDEO, "axes-swapped", lag=10)
def axes_made_to_fit_by_a_view() -> Training:
    return Walk(swap="view")


@case(SWAPPED, kind="healthy", lag=10)
def batch_first_in_both() -> Training:
    return Walk(batch_first=True)


class OneRow(Training):
    """Batch first, and the answer is read from the last row instead of the last step."""

    def __init__(self) -> None:
        model = EveryStep("lstm", 3)
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))

    def loss(self) -> Tensor:
        x, y = walks(24, 24)
        return F.cross_entropy(self.model(x.transpose(0, 1))[-1], y)


@case(PPO_AXES, "axes-swapped", lag=10)
def sequence_taken_for_the_batch() -> Training:
    return OneRow()


class Reading(Training):
    """Classified from one step of the output.

    Args:
        at: Which.
        lag: Before the end.
    """

    def __init__(self, at: int, lag: int, **layer: Any) -> None:
        model = EveryStep("gru", 4, **layer)
        super().__init__(model, torch.optim.RMSprop(model.parameters(), 2e-3))
        self.at, self.lag = at, lag

    def loss(self) -> Tensor:
        x, y = recalled(16, self.lag)
        return F.cross_entropy(self.model(x)[self.at], y)


@case(FIRST, "recurrence-ignored", lag=4, name="reads_the_first_step", args=(0, 4))
@case(FIRST, kind="healthy", lag=4, name="reads_the_last_step", args=(-1, 4))
def reading(at: int, lag: int) -> Training:
    return Reading(at, lag)


@case(FIRST, kind="odd", lag=4)
def reads_the_first_step_of_both_directions() -> Training:
    return Reading(0, 12, bidirectional=True)


class Tagging(Training):
    """A label for every real step of padded sequences.

    Args:
        mode: ``"all"``: the loss is of padded steps, too; ``"inverted"``: of these alone;
            ``"masked"``; ``"packed"``; ``"ignored"``: by the label that the loss passes over.
    """

    def __init__(self, mode: str) -> None:
        model = EveryStep("lstm", 3)
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))
        self.mode = mode

    def loss(self) -> Tensor:
        x, y, lengths = padded(32)
        real = (torch.arange(32)[:, None] < lengths).float()
        if self.mode == "packed":
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            out, _ = pad_packed_sequence(self.model.rnn(packed)[0])
            each = F.cross_entropy(self.model.fc(out).flatten(0, 1), y.flatten(), reduction="none")
            return (each * real.flatten()).sum() / real.sum()
        scores = self.model(x).flatten(0, 1)
        if self.mode == "ignored":
            y = y.masked_fill(real == 0, -100)
            return F.cross_entropy(scores, y.flatten())
        each = F.cross_entropy(scores, y.flatten(), reduction="none")
        if self.mode == "all":
            return each.mean()
        mask = (1 - real if self.mode == "inverted" else real).flatten()
        return (each * mask).sum() / mask.sum()


@case(PADDING, "padding", lag=1, name="loss_of_padded_steps", args=("all",), twin="masked_loss")
@case(SPLIT, "mask-inverted", lag=1, name="inverted_mask", args=("inverted",))
@case(PADDING, kind="healthy", lag=1, name="masked_loss", args=("masked",))
@case(SPLIT, kind="healthy", lag=1, name="packed_sequences", args=("packed",))
@case(PADDING, kind="odd", lag=1, name="ignored_label", args=("ignored",))
def tagging(mode: str) -> Training:
    return Tagging(mode)


class Carrying(Training):
    """The last state of a batch begins the next one.

    Args:
        goes_on: Whether the sequences do, too.
    """

    def __init__(self, goes_on: bool) -> None:
        model = EveryStep("lstm", 1, 1)
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))
        self.goes_on, self.state, self.at = goes_on, None, 0
        self.series = waves(3000, noise=0.01)

    def loss(self) -> Tensor:
        if self.goes_on:
            if self.at + 20 > 3000:
                self.at, self.state = 0, None
            x, y = (t[self.at : self.at + 20] for t in self.series)
            self.at += 20
        else:
            x, y = waves(20, noise=0.01)
        out, state = self.model.rnn(x, self.state)
        self.state = tuple(s.detach() for s in state)
        return F.mse_loss(self.model.fc(out), y)


@case(STALE, "leaking", lag=5, name="state_of_other_sequences", args=(False,))
@case(STALE, kind="odd", lag=5, name="state_of_the_same_sequences", args=(True,))
def carrying(goes_on: bool) -> Training:
    return Carrying(goes_on)


@case(UNSCALED, kind="odd", lag=2)
def symbols_as_codes() -> Training:
    """An embedding of codes up to a thousand: large numbers, and no inputs of a gate."""

    class Codes(Training):
        def loss(self) -> Tensor:
            x = torch.randint(1000, (12, 16))
            return F.cross_entropy(self.model(x), (x[-2] >= 500).long())

    class Model(LastStep):
        def __init__(self) -> None:
            super().__init__("gru", 8)
            self.embed = nn.Embedding(1000, 8)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.embed(x))

    model = Model()
    return Codes(model, torch.optim.Adam(model.parameters(), 1e-2))
