"""Memory that has to reach far, and does or does not."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.faults_wild.case import Tell, Training, case
from benchmarks.faults_wild.models import LanguageModel, LastStep, keep_memory
from benchmarks.faults_wild.tasks import recalled, text

MNIST = "https://github.com/Atcold/NYU-DLSP20/pull/93"
WINDOWS = "https://stats.stackexchange.com/questions/167482"
CONSTANT = "https://github.com/keras-team/keras/issues/1727"
EXPLODES = "https://github.com/karpathy/char-rnn/issues/169"
DETACH = "https://github.com/yunjey/pytorch-tutorial/issues/90"
BOTH_WAYS = "https://discuss.pytorch.org/t/one-layer-bilstm-is-not-learning/175731"
STATES = "https://github.com/siekmanj/r2l/issues/5"


class Recall(Training):
    """Remember one sign over a lag; classified at the last step.

    Args:
        kind: Of layer.
        steps: Of the sequence.
        lag: From what decides to the end.
        optimizer: Class of the optimiser.
        lr: Its rate.
        layer: Options of the layer.
    """

    def __init__(
        self,
        kind: str,
        steps: int,
        lag: int,
        optimizer: Any = torch.optim.Adam,
        lr: float = 2e-3,
        **layer: Any,
    ) -> None:
        model = LastStep(kind, **layer)
        super().__init__(model, optimizer(model.parameters(), lr=lr))
        self.rnn, self.size = model.rnn, (steps, lag)

    def loss(self) -> Tensor:
        x, y = recalled(*self.size)
        return F.cross_entropy(self.model(x), y)


@case(MNIST, "vanishing", lag=79, steps=300, twin="lstm_open_forget_gate")
def tanh_rnn_of_80_steps() -> Training:
    return Recall("rnn", 80, 79)


@case(WINDOWS, "vanishing", lag=99, steps=250)
def lstm_as_made_over_100_steps() -> Training:
    training = Recall("lstm", 100, 99, torch.optim.RMSprop, 1e-3)
    training.clip = 1.0
    return training


@case(BOTH_WAYS, "vanishing", lag=60, steps=250)
def gru_stack_over_60_steps() -> Training:
    return Recall("gru", 61, 60, torch.optim.AdamW, num_layers=2)


@case(CONSTANT, kind="healthy", lag=40, steps=300)
def lstm_open_forget_gate() -> Training:
    training = Recall("lstm", 41, 40, lr=5e-3)
    keep_memory(training.rnn, 5.0)
    return training


@case(CONSTANT, kind="healthy", steps=300)
def lstm_of_5_steps_without_a_lag() -> Training:
    return Recall("lstm", 5, 4, torch.optim.NAdam)


@case(MNIST, kind="healthy", lag=6, steps=400)
def orthogonal_rnn_over_6_steps() -> Training:
    training = Recall("rnn", 12, 6, torch.optim.SGD, 0.1)
    nn.init.orthogonal_(training.rnn.weight_hh_l0)
    training.clip = 1.0
    return training


@case(BOTH_WAYS, kind="odd", lag=60, steps=300)
def bidirectional_read_from_the_end() -> Training:
    """What is asked for is near to one end: the backward direction has it at hand."""

    class FirstSign(Recall):
        def loss(self) -> Tensor:
            x, y = recalled(*self.size)
            out, _ = self.rnn(x)
            return F.cross_entropy(self.model.fc(out[0]), y)

    return FirstSign("lstm", 61, 60, bidirectional=True)


@case(EXPLODES, "exploding", "nonfinite", lag=50, steps=300)
def relu_rnn_with_large_weights() -> Training:
    training = Recall("rnn", 51, 50, torch.optim.SGD, 0.01, nonlinearity="relu")
    with torch.no_grad():
        nn.init.eye_(training.rnn.weight_hh_l0).mul_(1.3)
    return training


@case(EXPLODES, "exploding", "nonfinite", "likelihood", lag=60, steps=300)
def tanh_rnn_with_weights_times_8() -> Training:
    training = Recall("rnn", 61, 60, torch.optim.SGD, 0.1)
    with torch.no_grad():
        training.rnn.weight_hh_l0.mul_(8)
    training.clip = 5.0
    return training


@case(EXPLODES, kind="healthy", lag=15, steps=400)
def identity_rnn() -> Training:
    training = Recall("rnn", 16, 15, torch.optim.Adam, 1e-3, nonlinearity="relu")
    with torch.no_grad():
        nn.init.eye_(training.rnn.weight_hh_l0)
        training.rnn.bias_hh_l0.zero_()
    training.clip = 1.0
    return training


class Chunks(Training):
    """A language model on a long text, chunk after chunk, the state carried over by value.

    Args:
        steps: Of one chunk.
    """

    def __init__(self, steps: int, lr: float = 5e-3) -> None:
        model = LanguageModel()
        super().__init__(model, torch.optim.Adam(model.parameters(), lr))
        self.size, self.state, self.left = steps, None, 0
        self.text: tuple[Tensor, Tensor] | None = None

    def loss(self) -> Tensor:
        if self.text is None or self.left < self.size:
            self.text, self.left, self.state = text(120), 120, None
        at = 120 - self.left
        x, y = (t[at : at + self.size] for t in self.text)
        self.left -= self.size
        scores, state = self.model(x, self.state)
        self.state = tuple(s.detach() for s in state)
        return F.cross_entropy(scores.flatten(0, 1), y.flatten())


@case(DETACH, kind="odd", lag=5, steps=400)
def language_model_in_chunks_of_20() -> Training:
    """Detached between chunks, as it should be: the lag lies within a chunk."""
    return Chunks(20)


class Windows(Recall):
    """Sequences cut in windows; only the last has a loss, and the state comes by value."""

    def loss(self) -> Tensor:
        steps, lag = self.size
        x, y = recalled(steps, lag)
        with torch.no_grad():
            _, state = self.rnn(x[:-5])
        out, _ = self.rnn(x[-5:], state)
        return F.cross_entropy(self.model.fc(out[-1]), y)


@case(WINDOWS, "truncated", lag=20, steps=500)
def windows_shorter_than_the_lag() -> Training:
    return Windows("gru", 25, 20)


class Detaching(Recall):
    """One step at a time, detaching the state each time to save memory.

    Args:
        keeps: Whether the graph is kept.
    """

    keeps = False

    def loss(self) -> Tensor:
        x, y = recalled(*self.size)
        state, out = None, x
        for row in x:
            out, state = self.rnn(row[None], state)
            if not self.keeps:
                state = tuple(s.detach() for s in state)
        return F.cross_entropy(self.model.fc(out[-1]), y)


@case(DETACH, "truncated", lag=12, steps=300, twin="step_by_step_with_its_graph")
def detached_at_every_step() -> Training:
    return Detaching("lstm", 13, 12)


@case(DETACH, kind="healthy", lag=12, steps=300)
def step_by_step_with_its_graph() -> Training:
    training = Detaching("lstm", 13, 12, lr=5e-3)
    training.keeps = True
    keep_memory(training.rnn, 3.0)
    return training


class Dropping(Recall):
    """One step at a time, and the state is never handed on."""

    def loss(self) -> Tensor:
        x, y = recalled(*self.size)
        outs = [self.rnn(row[None])[0] for row in x]
        return F.cross_entropy(self.model.fc(outs[-1][-1]), y)


@case(STATES, "recurrence-ignored", "truncated", lag=10, steps=300)
def state_is_never_handed_on() -> Training:
    return Dropping("gru", 11, 10)


class CellLoop(Training):
    """An `nn.LSTMCell` in a loop, in eager code.

    Args:
        steps: Of the sequence.
        forget: Bias of the forget gate.
    """

    def __init__(self, steps: int, forget: float) -> None:
        cell, head = nn.LSTMCell(4, 24), nn.Linear(24, 2)
        with torch.no_grad():
            cell.bias_ih[24:48] = forget
        model = nn.ModuleDict({"cell": cell, "head": head})
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))
        self.cell, self.head, self.steps = cell, head, steps

    def loss(self) -> Tensor:
        x, y = recalled(self.steps, self.steps - 1)
        h = c = torch.zeros(x.shape[1], 24)
        for row in x:
            h, c = self.cell(row, (h, c))
        return F.cross_entropy(self.head(h), y)

    def step(self, tell: Tell) -> float:
        self.clip = 1.0
        return super().step(tell)


@case(STATES, "vanishing", lag=49, steps=200, name="lstm_cell_that_forgets", args=(50, -1.0))
@case(STATES, kind="healthy", lag=24, steps=250, name="lstm_cell_that_keeps", args=(25, 5.0))
def cell_loop(steps: int, forget: float) -> Training:
    return CellLoop(steps, forget)
