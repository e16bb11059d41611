"""Small cells, each with one thing that a compiler of recurrences may stumble over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.cells import Cell, Gates, Noise, PerUnit, Recur, State

Pair = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EarlyState(Cell):
    """A state that is ready before the last stage; one that is passed on; one that is another."""

    name: ClassVar[str] = "early-state"
    gates: ClassVar[tuple[str, ...]] = ("candidate", "reset")
    states: ClassVar[tuple[str, ...]] = ("h", "early", "passed", "twin")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, early, passed, _ = state
        r = torch.sigmoid(x.reset + recur.reset(h) + early)
        n = torch.tanh(x.candidate + recur.candidate(r * h)) + 0.1 * passed
        return n, r, passed, n


@dataclass(frozen=True)
class RawStates(Cell):
    """New states that are an input, a product and a constant number."""

    name: ClassVar[str] = "raw-states"
    gates: ClassVar[tuple[str, ...]] = ("candidate", "raw")
    recurrent: ClassVar[tuple[str, ...]] = ("candidate",)  # pyright: ignore[reportIncompatibleMethodOverride]
    states: ClassVar[tuple[str, ...]] = ("h", "input", "product", "number")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, given, made, number = state
        a = recur.candidate(h)
        n = torch.tanh(x.candidate + a + 0.5 * given - 0.25 * made + number)
        return n, x.raw, a, torch.full_like(h, 0.5)


@dataclass(frozen=True)
class OtherArguments(Cell):
    """Products of c, of an input, of a product, of a parameter times a state, of a bare one."""

    name: ClassVar[str] = "other-arguments"
    gates: ClassVar[tuple[str, ...]] = ("candidate", "output")
    recurrent: ClassVar[tuple[str, ...]] = ("c", "x", "twice", "scaled", "unit")  # pyright: ignore[reportIncompatibleMethodOverride]
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    per_unit: ClassVar[Mapping[str, float]] = {"gain": 0.5}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        a = x.candidate + recur.c(c) + recur.x(x.output) + recur.scaled(unit.gain * h)
        c = torch.tanh(a + recur.twice(recur.c(c)) + recur.unit(unit.gain))
        return torch.sigmoid(x.output) * c + 0.1 * h, c


@dataclass(frozen=True)
class Unitary(Cell):
    """One recurrent block on two arguments in one step: a complex matrix on a complex state."""

    name: ClassVar[str] = "unitary"
    gates: ClassVar[tuple[str, ...]] = ("real", "imaginary")
    states: ClassVar[tuple[str, ...]] = ("h", "s")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        re, im = state
        a = x.real + recur.real(re) - recur.imaginary(im)
        b = x.imaginary + recur.real(im) + recur.imaginary(re)
        size = torch.sqrt(a * a + b * b + 1e-6)
        scale = torch.relu(size - 0.1) / size
        return a * scale, b * scale


@dataclass(frozen=True)
class Normed(Cell):
    """A sum over units inside a stage, and per-unit parameters."""

    name: ClassVar[str] = "normed"
    gates: ClassVar[tuple[str, ...]] = ("candidate", "keep")
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    per_unit: ClassVar[Mapping[str, float]] = {"scale": 1.0, "peep": 0.5}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        a = x.candidate + recur.candidate(h) + unit.peep * c
        centred = a - a.mean(-1, keepdim=True)
        spread = (centred**2).mean(-1, keepdim=True)
        n = torch.tanh(unit.scale * centred / torch.sqrt(spread + 1e-5))
        z = torch.sigmoid(x.keep + recur.keep(h))
        c = z * c + (1 - z) * n
        return torch.exp(-torch.abs(c)) * c, c


@dataclass(frozen=True)
class NoProduct(Cell):
    """Independent units: no recurrent matrix at all."""

    name: ClassVar[str] = "no-product"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    recurrent: ClassVar[tuple[str, ...]] = ()  # pyright: ignore[reportIncompatibleMethodOverride]
    per_unit: ClassVar[Mapping[str, float]] = {"recurrent": 0.9}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (torch.tanh(x.candidate + unit.recurrent * state[0]),)


@dataclass(frozen=True)
class Truncated(Cell):
    """The memory of 1997: the gradient goes back through c alone; a gate that nothing reads."""

    name: ClassVar[str] = "truncated"
    gates: ClassVar[tuple[str, ...]] = ("input", "candidate", "unused", "output")
    recurrent: ClassVar[tuple[str, ...]] = ("output", "input", "candidate", "idle")  # pyright: ignore[reportIncompatibleMethodOverride]
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c = state
        past = h.detach()
        _ = recur.idle(h) + x.unused
        i = torch.sigmoid(x.input + recur.input(past))
        g = torch.tanh(x.candidate + recur.candidate(past))
        o = torch.sigmoid(x.output + recur.output(past))
        c = c + i * g
        return o * torch.tanh(c), c


@dataclass(frozen=True)
class RowValues(Cell):
    """Means, maxima and norms over units, some read behind a product."""

    name: ClassVar[str] = "row-values"
    gates: ClassVar[tuple[str, ...]] = ("candidate", "key")
    states: ClassVar[tuple[str, ...]] = ("h", "m")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, m = state
        a = x.candidate + recur.candidate(h)
        mean = a.mean(-1, keepdim=True)
        top = (a * x.key).amax(-1, keepdim=True)
        k = x.key + recur.key((a - mean) * torch.sigmoid(top))
        size = torch.linalg.vector_norm(k, dim=-1, keepdim=True)
        soft = torch.softmax(k, -1) * torch.logsumexp(a, -1, keepdim=True)
        new = torch.tanh(k / (1 + size) + mean * soft + F.layer_norm(a, a.shape[-1:]))
        spread = a.var(-1, keepdim=True) + (a * k).sum(-1).unsqueeze(-1) + a.amin(-1, keepdim=True)
        return new + 0.1 * m, torch.tanh(spread).expand_as(h)


@dataclass(frozen=True)
class Noisy(Cell):
    """Noise in a product's argument, constants, and a stabiliser as of an exponential gate."""

    name: ClassVar[str] = "noisy"
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate")
    states: ClassVar[tuple[str, ...]] = ("h", "c", "n", "m")

    @property
    def noise(self) -> Mapping[str, Noise]:
        return {"keep": Noise(0.75, shared=True), "zone": Noise(0.2), "bare": Noise(0.5)}

    def constants(self, hidden_size: int) -> Mapping[str, Tensor]:
        return {"period": torch.arange(hidden_size) % 3 + 1.0}

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h, c, n, m = state
        d = h * x.keep / 0.75
        a, f = x.input + recur.input(d), x.forget + recur.forget(x.bare)
        new_m = torch.maximum(f + m, a)
        i, g = torch.exp(a - new_m), torch.exp(f + m - new_m)
        new_c = g * c + i * torch.tanh(x.candidate + recur.candidate(d))
        new_n = g * n + i
        new_h = new_c / torch.maximum(new_n.abs(), torch.ones_like(new_n)) / unit.period
        return x.zone * h + (1 - x.zone) * new_h, new_c, new_n, new_m


@dataclass(frozen=True)
class Pointwise(Cell):
    """Operations of two values behind a product, each a state of its own that nothing reads."""

    name: ClassVar[str] = "pointwise"
    gates: ClassVar[tuple[str, ...]] = ("candidate", "other")
    operations: tuple[str, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("h", *self.operations)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        h = state[0]
        a, b = 2 * x.candidate + recur.candidate(h), x.other + recur.other(h)
        made = (OPERATIONS[name](a, b) for name in self.operations)
        return (torch.tanh(a - b), *(torch.tanh(value) for value in made))


OPERATIONS: dict[str, Pair] = {
    "floor": lambda a, b: torch.floor(a) * b + torch.ceil(b) * a,
    "trunc": lambda a, b: torch.trunc(a) * torch.frac(b),
    "round": lambda a, b: torch.round(3 * a) * b,
    "fmod": lambda a, b: torch.fmod(a, 0.7) * b + torch.fmod(a, b.abs() + 0.3),
    "remainder": lambda a, b: torch.remainder(a, 0.7) + torch.remainder(a, b.abs() + 0.3),
    "floor_divide": lambda a, b: torch.div(a, 0.3, rounding_mode="floor") * b,
    "sign": lambda a, b: torch.sign(a) * b + torch.copysign(a, b),
    "clamp": lambda a, b: torch.clamp(a, -0.5, 0.5) * b + b.clamp(min=0) + a.clamp_max(0.2),
    "clamp_by_tensor": lambda a, b: torch.clamp(a, b, b + 1),
    "hardtanh": lambda a, b: F.hardtanh(a) + F.relu6(b),
    "hardsigmoid": lambda a, b: F.hardsigmoid(a) * F.hardswish(b),
    "logsigmoid": lambda a, b: F.logsigmoid(a) * b,
    "softplus": lambda a, b: F.softplus(a) * F.softplus(b, beta=2.0),
    "logaddexp": torch.logaddexp,
    "exponential": lambda a, b: torch.exp(-a * a) * torch.exp2(b) + torch.expm1(b),
    "logarithm": lambda a, b: (
        torch.log(a.abs() + 0.1) * torch.log2(b.abs() + 0.1)
        + torch.log10(a.abs() + 0.1)
        + torch.log1p(b.abs())
    ),
    "root": lambda a, b: torch.sqrt(a.abs() + 0.1) * torch.rsqrt(b.abs() + 0.1),
    "power": lambda a, b: (
        torch.pow(a.abs() + 0.1, b) + torch.pow(2.0, b) + (a.abs() + 0.1) ** 1.7 + b**4
    ),
    "extremes": lambda a, b: torch.maximum(a, b) * torch.minimum(a, b),
    "erf": lambda a, b: torch.erf(a) * torch.erfc(b),
    "gelu": lambda a, b: F.gelu(a) + F.gelu(b, approximate="tanh"),
    "leaky": lambda a, b: F.leaky_relu(a, 0.1) + F.elu(b, 0.7) + F.selu(a) + F.celu(b),
    "silu": lambda a, b: F.silu(a) * F.mish(b),
    "arc": lambda a, b: torch.atan2(a, b) + torch.atan(a) * torch.asinh(b),
    "arc_inside": lambda a, b: torch.asin(0.9 * torch.tanh(a)) * torch.acos(0.9 * torch.tanh(b)),
    "hyperbolic": lambda a, b: torch.sinh(a) + torch.cosh(b) + torch.atanh(0.9 * torch.tanh(a)),
    "circle": lambda a, b: torch.sin(3 * a) * torch.cos(2 * b) + torch.tan(0.5 * torch.tanh(a)),
    "softsign": lambda a, b: F.softsign(a) + F.tanhshrink(b) + F.softshrink(a) + F.hardshrink(b),
    "choice": lambda a, b: torch.where(a > 0, torch.ones_like(a), torch.zeros_like(a)) * b,
    "where": lambda a, b: torch.where((a > 0) & ~(b < 0) | (a == b) ^ (a != b), a, b * 2.0),
    "condition": lambda a, b: (a > 0).to(a.dtype) * b + (b >= 0.1).float() * a,
    "not_finite": lambda a, b: torch.where(torch.isnan(a) | torch.isinf(b), b, a),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3) + torch.addcmul(a, b, b, value=0.5),
    "hypot": lambda a, b: torch.hypot(a, b + 0.1),
    "constants": lambda a, b: torch.zeros_like(a) + 2 * torch.ones_like(b) * b + torch.tensor(0.1),
    "square": lambda a, b: torch.square(a) - torch.reciprocal(b.abs() + 0.5),
}

NAMES = list(OPERATIONS)
GROUPS = [Pointwise(tuple(NAMES[i : i + 9])) for i in range(0, len(NAMES), 9)]
"""A few kernels for all operations: a compiler takes its time."""

ODD: list[Cell] = [
    EarlyState(),
    RawStates(),
    OtherArguments(),
    Unitary(),
    NoProduct(),
    Truncated(),
    RowValues(),
    Noisy(),
]
