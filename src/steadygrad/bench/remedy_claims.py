"""The claim of every remedy, measured on a small example: one number or two, in words."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad import nn as sg
from steadygrad.flow import lyapunov_exponents, recurrent_layers, singular_values
from steadygrad.init.blocks import row_blocks
from steadygrad.remedies import Remedy
from steadygrad.remedies.recurrences import recurrences

T, B, I, H = 20, 4, 3, 16
SPIKE, STEPS = 1e3, 30


def measure(remedy: Remedy) -> str:
    """Say what was measured of the remedy's claim; a test holds the claim itself."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for names, how in HOW:
            if remedy.name in names:
                return how(remedy)
        if remedy.acts_on_gradients:
            return _spike(remedy)
        return _descent(remedy)


class _Small(nn.Module):
    """A layer and a read-out of its last output, in float64."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn: Any = getattr(sg, kind)(I, H)
        self.head = nn.Linear(H, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def _example(remedy: Remedy) -> tuple[_Small, Tensor]:
    """A model that suits, and an input."""
    model = _Small("RNN")
    model = model if remedy.applicable(model) else _Small("LSTM")
    return model, torch.randn(T, B, I, dtype=torch.float64)


def _loss_of(model: nn.Module, x: Tensor) -> Tensor:
    target = torch.arange(x.shape[1]) % 2
    return nn.functional.cross_entropy(model(x), target)


def _train(remedy: Remedy, model: nn.Module, x: Tensor, alone: bool = False) -> tuple[float, float]:
    """Train a little, on the penalty alone if so wished; return the penalty before and after."""
    applied = remedy.apply(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = _loss_of(model, x)
        penalty = applied.penalty(loss)
        (penalty if alone else loss + penalty).backward()
        optimizer.step()
        values.append(penalty.item())
    return values[0], values[-1]


def _blocks_of(model: nn.Module) -> Tensor:
    (layer,) = recurrences(model)
    return torch.stack(row_blocks(layer.value("weight_hh").detach(), len(layer.recurrent)))


def _sigma(remedy: Remedy) -> str:
    model, x = _example(remedy)
    if "init" in remedy.name or remedy.name == "irnn":
        remedy.apply(model)
        when = "at the start"
    else:
        _train(remedy, model, x)
        when = "after 60 updates"
    # Of an LSTM an identity is set in the candidate alone; a plain layer has nothing else.
    found = torch.linalg.svdvals(_blocks_of(model))
    return f"singular values {found.min():.3f} to {found.max():.3f} {when}"


def _descent(remedy: Remedy) -> str:
    model, x = _example(remedy)
    first, last = _train(remedy, model, x, alone=True)
    return f"penalty {first:.3g} to {last:.3g} in 60 steps of descending it"


def _spike(remedy: Remedy) -> str:
    """What a remedy on gradients makes of one that is a thousand times the usual."""
    model, x = _example(remedy)
    treatment = remedy.begin(model, torch.optim.SGD(model.parameters(), 0.1))

    def norm() -> float:
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(grads))

    before = 0.0
    for step in range(STEPS + 1):
        model.zero_grad()
        factor = (SPIKE if step == STEPS else 1.0) * (1 + 0.1 * math.sin(step))
        (factor * _loss_of(model, x)).backward()
        before = norm()
        treatment()
    return f"a spike of norm {before:.3g} becomes {norm():.3g}"


def _broken(remedy: Remedy) -> str:
    model, x = _example(remedy)
    treatment = remedy.begin(model, torch.optim.SGD(model.parameters(), 0.1))
    _loss_of(model, x).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    grads[0].view(-1)[0] = math.nan
    treatment()
    left = sum(int((~g.isfinite()).sum()) for g in grads)
    return f"1 NaN among the gradients, {left} after"


def _lost(remedy: Remedy) -> str:
    model, x = _example(remedy)
    treatment = remedy.begin(model, torch.optim.SGD(model.parameters(), 0.1))
    weight = next(iter(model.parameters()))
    with torch.no_grad():
        weight[0, 0] = math.nan
    _loss_of(model, x).backward()
    treatment()
    left = sum(int((~p.isfinite()).sum()) for p in model.parameters())
    return f"1 NaN among the weights, {left} after"


def _floss(remedy: Remedy) -> str:
    model, x = _example(remedy)

    def away() -> float:
        with torch.no_grad():
            return lyapunov_exponents(model.rnn, x, discard=5).square().mean().sqrt().item()

    before = away()
    remedy.apply(model)
    _loss_of(model, x)
    return f"exponents' distance to 0 (rms) {before:.3f} to {away():.3f} nats per step"


def _mean_sigma(remedy: Remedy) -> str:
    model, x = _example(remedy)

    def mean() -> float:
        with torch.no_grad():
            return singular_values(model.rnn, x).mean().item()

    before = mean()
    remedy.apply(model)
    _loss_of(model, x)
    return f"mean singular value of the step Jacobian {before:.3f} to {mean():.3f}"


def _gate(remedy: Remedy) -> str:
    model, _ = _example(remedy)
    remedy.apply(model)
    (layer,) = recurrences(model)
    both = torch.stack([bias.detach() for bias in layer.biases()]).sum(0)
    keeping = row_blocks(both, len(layer.gates))[layer.gates.index(layer.keeping_gate or "")]
    times = 1 / (1 - (layer.keeping_sign * keeping).sigmoid())
    return f"time constants {times.min():.1f} to {times.max():.1f} steps at zero input and state"


def _variance(remedy: Remedy) -> str:
    model = nn.Sequential(sg.LSTM(50, 200))
    remedy.apply(model)
    (layer,) = recurrences(model)
    found = layer.value("weight_ih").detach().var().item() * (50 + 200)
    return f"variance times (I + H) {found:.3f}"


def _without_matrix(remedy: Remedy) -> str:
    """The gradient that passes when all weights of the layer are zero."""

    def passed(model: _Small, x: Tensor) -> float:
        with torch.no_grad():
            for _, layer in recurrent_layers(model):
                for name, parameter in layer.named_parameters():
                    if name.startswith("weight"):
                        parameter.zero_()
        x = x.clone().requires_grad_()
        state = torch.rand(1, B, H, dtype=x.dtype, requires_grad=True)
        output, _ = model.rnn(x, state)
        to = x if remedy.name == "skip" else state
        (grad,) = torch.autograd.grad(output[-1].sum(), to, allow_unused=True)
        return 0.0 if grad is None else grad.norm().item()

    model, x = _example(remedy)
    before = passed(model, x)
    remedy.apply(model)
    where = "input" if remedy.name == "skip" else f"state {T} steps back"
    return f"with zero weights the gradient at the {where} goes from {before:.3g} to " + (
        f"{passed(model, x):.3g}"
    )


def _scaling(remedy: Remedy) -> str:
    model, x = _example(remedy)
    remedy.apply(model)
    outputs = []
    for _ in range(2):
        with torch.no_grad():
            for name, parameter in model.rnn.named_parameters():
                if name.startswith(("weight", "bias")):
                    parameter.mul_(100.0)
            outputs.append(model(x))
    return f"weights times 100: outputs change by {(outputs[1] - outputs[0]).abs().max():.1g}"


def _ends(remedy: Remedy) -> str:
    """The share of the gradient that arrives at the first input, before and after."""
    model, x = _example(remedy)

    def ratio() -> float:
        given = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(1e3 * _loss_of(model, given), given)
        rows = grad.flatten(1).norm(dim=1)
        return math.log10(rows[0].item() / rows[-1].item()) if rows.min() > 0 else -math.inf

    before = ratio()
    remedy.apply(model)
    return f"log10 of the gradient at the first input over the last {before:.1f} to {ratio():.1f}"


def _step_length(remedy: Remedy) -> str:
    lengths = []
    for begins in (False, True):
        model, _ = _example(remedy)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        if begins:
            remedy.begin(model, optimizer)
        before = [p.detach().clone() for p in model.parameters()]
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        moved = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
        lengths.append(float(nn.utils.get_total_norm(moved)))
    return f"a step of gradient descent of length {lengths[0]:.3g} becomes {lengths[1]:.3g} long"


def _centre(remedy: Remedy) -> str:
    model = _Small("LSTM")

    def largest() -> float:
        (layer,) = recurrences(model)
        return float(torch.stack([b.detach() for b in layer.biases()]).sum(0).abs().max())

    before = largest()
    remedy.apply(model)
    return f"largest pre-activation at zero input and state {before:.3f} to {largest():.3f}"


SIGMA = ("orthogonal", "orthogonal-init", "identity-init", "irnn", "rotation-init")
HOW: tuple[tuple[tuple[str, ...], Callable[[Remedy], str]], ...] = (
    ((*SIGMA, "spectral-bound", "spectral-margin"), _sigma),
    (("nonfinite",), _broken),
    (("rollback",), _lost),
    (("flossing",), _floss),
    (("learning-rate",), _step_length),
    (("bias-reset",), _centre),
    (("jacobian-scale",), _mean_sigma),
    (("forget-bias", "chrono-init"), _gate),
    (("gate-init",), _variance),
    (("gated", "skip"), _without_matrix),
    (("layer-norm",), _scaling),
    (("source-reversal", "truncate", "clip-through-time", "derivative-clip"), _ends),
)
