"""Loops and calls that a hook on a layer does not see: to be called so, or measured."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmarks.faults_wild.case import Tell, Training, case
from benchmarks.faults_wild.models import LastStep
from benchmarks.faults_wild.tasks import recalled

LINEAR = "https://github.com/pytorch/tutorials/issues/3791"
NAMES = "https://github.com/spro/practical-pytorch/issues/96"
MAML = "https://github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch/issues/18"
VMAP = "https://github.com/pytorch/rl/pull/2376"
DECODER = "https://github.com/HHTseng/video-classification/issues/42"


class NamesModel(nn.Module):
    """The recurrence of the tutorial on names: two linear layers on input and state together.

    Args:
        act: On the new state; None as in the tutorial.
    """

    def __init__(self, act: Any = None, hidden: int = 24) -> None:
        super().__init__()
        self.i2h, self.h2o = nn.Linear(4 + hidden, hidden), nn.Linear(hidden, 2)
        self.hidden, self.act = hidden, act

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], self.hidden)
        for row in x:
            h = self.i2h(torch.cat([row, h], 1))
            h = h if self.act is None else self.act(h)
        return self.h2o(h)


class Recall(Training):
    """A sign some steps back."""

    def __init__(self, model: nn.Module, lag: int, optimizer: Any = None) -> None:
        made = torch.optim.Adam(model.parameters(), 2e-3) if optimizer is None else optimizer
        super().__init__(model, made)
        self.lag = lag

    def loss(self) -> Tensor:
        x, y = recalled(self.lag + 2, self.lag)
        return F.cross_entropy(self.model(x), y)


@case(NAMES, kind="odd", lag=4, is_measurable=False, steps=300)
def linear_layers_in_a_loop() -> Training:
    return Recall(NamesModel(torch.tanh), 4)


@case(LINEAR, kind="odd", is_measurable=False, steps=300)
def linear_recurrence_without_a_lag() -> Training:
    return Recall(NamesModel(), 4)


@case(NAMES, "exploding", "exploding-depth", "nonfinite", lag=40, is_measurable=False, steps=150)
def linear_recurrence_that_explodes() -> Training:
    model = NamesModel()
    with torch.no_grad():
        model.i2h.weight.mul_(4)
    return Recall(model, 40, torch.optim.SGD(model.parameters(), 0.005))


class EncodeDecode(nn.Module):
    """An LSTM reads; a loop of linear layers, by hand, goes on from there.

    Args:
        steps: Of the loop.
    """

    def __init__(self, steps: int, hidden: int = 24) -> None:
        super().__init__()
        self.encoder = nn.LSTM(4, hidden)
        self.i2h, self.out = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, 2)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.encoder(x)
        h = h[0]
        y = torch.zeros_like(h)
        for _ in range(self.steps):
            y = torch.tanh(self.i2h(torch.cat([h, y], 1)))
        return self.out(y)


@case(DECODER, kind="odd", lag=3, is_measurable=False, steps=300)
def decoder_loop_beside_an_lstm() -> Training:
    return Recall(EncodeDecode(15), 3)


@case(LINEAR, kind="odd", lag=5, is_measurable=False, steps=300)
def loop_with_raw_weights() -> Training:
    """A recurrence of parameters and matrix products: no layer is called in the loop at all."""

    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.Linear(4, 24)
            self.r = nn.Parameter(torch.randn(24, 24) / 24**0.5)
            self.fc = nn.Linear(24, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], 24)
            for row in self.norm(x):
                h = torch.tanh(row + h @ self.r)
            return self.fc(h)

    return Recall(Raw(), 5)


class Attending(nn.Module):
    """A GRU reads; a gated loop by hand attends to what it has read, as a decoder of captions."""

    def __init__(self, steps: int, hidden: int = 24) -> None:
        super().__init__()
        self.encoder = nn.GRU(4, hidden)
        self.attend, self.gate = nn.Linear(2 * hidden, 1), nn.Linear(2 * hidden, hidden)
        self.new, self.out = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, 2)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        seen, _ = self.encoder(x)
        h = seen[-1]
        for _ in range(self.steps):
            pairs = torch.cat([seen, h.expand_as(seen)], -1)
            both = torch.cat([(self.attend(pairs).softmax(0) * seen).sum(0), h], -1)
            gate = torch.sigmoid(self.gate(both))
            h = gate * h + (1 - gate) * torch.tanh(self.new(both))
        return self.out(h)


@case(DECODER, kind="odd", lag=3, is_measurable=False, steps=200)
def gated_decoder_beside_a_gru() -> Training:
    return Recall(Attending(8), 3)


class Ensemble(Training):
    """Three copies of one network, their weights stacked, called by `torch.vmap`."""

    def __init__(self) -> None:
        self.base: Any = nn.ModuleDict({"cell": nn.RNNCell(4, 16), "head": nn.Linear(16, 2)})
        drawn = [
            {n: p.detach() + 0.1 * torch.randn_like(p) for n, p in self.base.named_parameters()}
            for _ in range(3)
        ]
        self.stacked = {n: nn.Parameter(torch.stack([d[n] for d in drawn])) for n in drawn[0]}
        super().__init__(self.base, torch.optim.Adam(self.stacked.values(), 3e-3))

    def loss(self) -> Tensor:
        x, y = recalled(6, 3)

        def one(weights: Any) -> Tensor:
            cell = {n.partition(".")[2]: w for n, w in weights.items() if n.startswith("cell")}
            head = {n.partition(".")[2]: w for n, w in weights.items() if n.startswith("head")}
            h = x.new_zeros(x.shape[1], 16)
            for row in x:
                h = functional_call(self.base["cell"], cell, (row, h))
            return F.cross_entropy(functional_call(self.base["head"], head, (h,)), y)

        return torch.vmap(one)(self.stacked).sum()


@case(VMAP, kind="odd", lag=3, is_measurable=False, steps=150)
def ensemble_in_one_call() -> Training:
    return Ensemble()


class Functional(Recall):
    """Called with parameters of its own, as meta-learning does, after one inner step.

    Args:
        is_all: Whether every call is one; else the model is called itself, too.
    """

    def __init__(self, is_all: bool) -> None:
        model = LastStep("lstm")
        super().__init__(model, 4)
        self.is_all = is_all

    def loss(self) -> Tensor:
        x, y = recalled(6, 4)
        weights: dict[str, Tensor] = dict(self.model.named_parameters())
        first = F.cross_entropy(functional_call(self.model, weights, (x,)), y)
        grads = torch.autograd.grad(first, list(weights.values()), create_graph=True)
        moved = {n: p - 0.05 * g for (n, p), g in zip(weights.items(), grads, strict=True)}
        x, y = recalled(6, 4)
        second = F.cross_entropy(functional_call(self.model, moved, (x,)), y)
        return second if self.is_all else second + F.cross_entropy(self.model(x), y)


@case(MAML, kind="odd", lag=4, is_measurable=False, steps=200, args=(True,), name="meta_learning")
@case(
    MAML, kind="odd", lag=4, is_measurable=False, steps=200, args=(False,),
    name="meta_learning_beside_plain_calls",
)  # fmt: skip
def functional(is_all: bool) -> Training:
    return Functional(is_all)


class Transformed(Training):
    """Gradients by `torch.func.grad` over a cell, one for each row.

    Args:
        each: Whether they are taken row by row, by `torch.vmap`.
    """

    def __init__(self, each: bool) -> None:
        model = nn.ModuleDict({"cell": nn.GRUCell(4, 16), "head": nn.Linear(16, 1)})
        super().__init__(model, torch.optim.SGD(model.parameters(), 0.1))
        self.each = each

    def step(self, tell: Tell) -> float:
        weights = {n: p.detach() for n, p in self.model.named_parameters()}
        cell = {n.partition(".")[2]: w for n, w in weights.items() if n.startswith("cell")}
        head = {n.partition(".")[2]: w for n, w in weights.items() if n.startswith("head")}

        def loss(cell: Any, head: Any, x: Tensor, y: Tensor) -> Tensor:
            h = x.new_zeros(*x.shape[1:-1], 16)
            for row in x:
                h = functional_call(self.model["cell"], cell, (row, h))
            score = functional_call(self.model["head"], head, (h,))[..., 0]
            return F.binary_cross_entropy_with_logits(score, y)

        x, y = recalled(6, 3)
        grad = torch.func.grad_and_value(loss, argnums=(0, 1))
        if self.each:
            grads, values = torch.vmap(grad, in_dims=(None, None, 1, 0))(cell, head, x, y.float())
            grads = tuple({n: g.mean(0) for n, g in part.items()} for part in grads)
        else:
            grads, values = grad(cell, head, x, y.float())
        for name, part in zip(("cell", "head"), grads, strict=True):
            for n, p in self.model[name].named_parameters():
                p.grad = part[n]
        tell(values.mean().detach())
        self.optimizer.step()
        return float(values.mean())


@case(VMAP, kind="odd", lag=3, is_measurable=False, steps=200, name="func_grad", args=(False,))
@case(VMAP, kind="odd", lag=3, is_measurable=False, steps=150, name="vmap_of_grad", args=(True,))
def transformed(each: bool) -> Training:
    return Transformed(each)
