"""Fused kernels of other libraries: measured by marks at their borders, or not judged.

The kernel here is a `torch.autograd.Function` with a matrix as state and a backward pass of its
own, as those of linear attention are. Its gradient is known: it shrinks by the decay at each step.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg

F64 = torch.float64
T, B, K = 40, 2, 4
LAG = 20


class Kernel(torch.autograd.Function):
    """S_t = a S_{t-1} + k_t v_t^T and o_t = S_t^T q_t, for all steps of (T, B, K)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        states, outputs = [state], []
        for t in range(len(q)):
            states.append(a * states[-1] + k[t, ..., None] * v[t, ..., None, :])
            outputs.append((q[t, ..., None, :] @ states[-1]).squeeze(-2))
        ctx.save_for_backward(q, k, v, a, torch.stack(states))
        return torch.stack(outputs), states[-1]

    @staticmethod
    def backward(ctx: Any, at_output: Tensor, back: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, a, states = ctx.saved_tensors
        to_q, to_k, to_v, to_a = (torch.zeros_like(z) for z in (q, k, v, a))
        for t in reversed(range(len(q))):
            to_q[t] = (states[t + 1] @ at_output[t, ..., None]).squeeze(-1)
            back = back + q[t, ..., None] * at_output[t, ..., None, :]
            to_k[t] = (back @ v[t, ..., None]).squeeze(-1)
            to_v[t] = (k[t, ..., None, :] @ back).squeeze(-2)
            to_a += (back * states[t]).sum()
            back = a * back
        return to_q, to_k, to_v, to_a, back


class Theirs(nn.Module):
    """A layer of another library, that runs ``chunk`` steps in a call of its kernel."""

    def __init__(self, decay: float, chunk: int = T, is_marked: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.project = nn.Linear(3, 3 * K, dtype=F64)
        self.decay = nn.Parameter(torch.tensor(decay, dtype=F64))
        self.out = nn.Linear(K, 1, dtype=F64)
        self.chunk, self.is_marked = chunk, is_marked

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(B, K, K, dtype=F64)
        q, k, v = (part.split(self.chunk) for part in self.project(x).chunk(3, -1))
        output = state
        for piece in zip(q, k, v, strict=True):
            output, state = Kernel.apply(*piece, self.decay, state)
            if self.is_marked:
                state = sg.mark(state, "S", steps=self.chunk)
        return self.out(output[-1]).square().sum()


def data() -> Tensor:
    return torch.randn(T, B, 3, dtype=F64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize(("decay", "verdict"), [(0.5, "vanishing"), (0.99, "healthy")])
def test_a_kernel_whose_states_are_marked_is_measured(
    decay: float, verdict: str, chunk: int
) -> None:
    model, x = Theirs(decay, chunk, True), data()
    d = sg.diagnose(model, lambda: model(x), lag=LAG)
    flow = d.flow["S"]
    assert d.verdict == verdict and flow.time_steps == T - chunk + 1
    ratio = flow.by_lag.log10_ratio
    np.testing.assert_allclose(ratio, np.arange(len(ratio)) * math.log10(decay), atol=1e-9)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with sg.watch(model, optimizer, lag=LAG, every=1) as w:
        model(x).backward()
        optimizer.step()
    np.testing.assert_allclose(w.flow["S"].by_lag.log10_ratio, ratio, atol=1e-9)


@pytest.mark.parametrize("lag", [None, LAG])
@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_a_kernel_that_shows_nothing_is_not_judged(decay: float, lag: int | None) -> None:
    model, x = Theirs(decay), data()
    d = sg.diagnose(model, lambda: model(x), lag=lag)
    assert d.verdict == "not judged"
    assert "Kernel" in str(d) and "sg.mark" in str(d)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    with sg.watch(model, optimizer, every=1) as w:
        for _ in range(4):
            optimizer.zero_grad()
            model(x).backward()
            optimizer.step()
        assert w.verdict == "not judged"


class Beside(nn.Module):
    """A recurrent layer that is healthy, and behind it another library's kernel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.rnn = nn.RNN(3, 3, nonlinearity="relu", dtype=F64)
        with torch.no_grad():
            self.rnn.get_parameter("weight_hh_l0").copy_(torch.eye(3))
            self.rnn.get_parameter("bias_ih_l0").fill_(1.0)
        self.theirs = Theirs(0.99)

    def forward(self, x: Tensor) -> Tensor:
        return self.theirs(self.rnn(x)[0])


def test_what_is_measured_beside_it_does_not_make_it_healthy() -> None:
    model, x = Beside(), data()
    d = sg.diagnose(model, lambda: model(x), lag=LAG)
    assert d.verdict == "not judged" and "Kernel" in str(d) and not d.findings


class Pointwise(torch.autograd.Function):
    """A sign whose gradient is let through, as in quantised networks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x.sign() * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, grad.sum((0, 1))


class Mixing(torch.autograd.Function):
    """A norm over time and features: every step reads every other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return x - x.mean((0, 2), keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad - grad.mean((0, 2), keepdim=True)


def test_a_function_that_hands_nothing_on_is_none() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 16, dtype=F64), nn.Linear(16, 1, dtype=F64))
    scale, x = torch.ones(16, dtype=F64, requires_grad=True), data()

    def loss() -> Tensor:
        inner = Mixing.apply(Pointwise.apply(model[0](x), scale))
        assert isinstance(inner, Tensor)
        return model[1](inner).square().mean()

    assert sg.diagnose(model, loss).verdict == "healthy"


def test_a_wrong_number_of_steps_is_refused() -> None:
    for steps in (0, 2.0):
        with pytest.raises(ValueError, match="steps counts time steps"):
            sg.mark(torch.zeros(2), "S", steps=steps)  # type: ignore[arg-type]
