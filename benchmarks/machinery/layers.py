"""The layer that is tried, its input, its loss, and how far two results are apart."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Layer = Any
Probe = Callable[[Layer], float | str]
STEPS, ROWS, INPUTS, UNITS = 5, 3, 4, 6


def inputs(steps: int = STEPS, rows: int = ROWS) -> Tensor:
    """``(T, B, I)`` in float64, the same every time."""
    x = torch.linspace(-1, 1, steps * rows * INPUTS, dtype=torch.float64)
    return (3 * x).sin().view(steps, rows, INPUTS)


def loss(layer: Layer, x: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """A number that every output and every weight enters."""
    own = dict(layer.named_parameters()) if weights is None else dict(weights)
    return functional_call(layer, own, (x,))[0].sin().sum()


def values(layer: Layer) -> dict[str, Tensor]:
    """The weights, outside of autograd."""
    return {n: p.detach() for n, p in layer.named_parameters()}


def gradients(layer: Layer, x: Tensor) -> dict[str, Tensor]:
    """Of `loss`, by plain autograd."""
    names, weights = zip(*layer.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss(layer, x), weights), strict=True))


def collected(layer: Layer) -> dict[str, Tensor]:
    """The gradients that a backward pass left; a weight without one is an error."""
    found = {n: p.grad for n, p in layer.named_parameters()}
    missing = [n for n, g in found.items() if g is None]
    if missing:
        raise RuntimeError(f"no gradient arrived at {', '.join(missing)}")
    return {n: g.clone() for n, g in found.items() if g is not None}


def by_input(value: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Gradient of ``(value(x) * weight).sum()`` by x."""
    x = inputs().requires_grad_()
    return torch.autograd.grad((value(x) * weight).sum(), x)[0]


def apart(found: Any, expected: Any) -> float:
    """The largest difference of tensors, of two sequences or of two dictionaries of them."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), (sorted(found), sorted(expected))
        return max(apart(found[n], expected[n]) for n in expected)
    if isinstance(expected, Sequence):
        return max(apart(f, e) for f, e in zip(found, expected, strict=True))
    assert found.shape == expected.shape, (found.shape, expected.shape)
    if not expected.numel():
        return 0.0
    return float((found.double() - expected.double()).abs().max())


def fresh(layer: Layer, **options: Any) -> Layer:
    """Another layer of its kind in float32, with the default sizes."""
    return type(layer)(INPUTS, UNITS, **options)


def single(layer: Layer) -> Layer:
    """Its copy in float32."""
    made = fresh(layer)
    made.load_state_dict(layer.state_dict())
    return made


def name(layer: Layer) -> str:
    """LSTM, GRU or RNN; the class of a parametrised layer is called otherwise."""
    return layer.mode.partition("_")[0]


def twin(layer: Layer) -> Layer:
    """Torch's own layer with its weights, in its dtype."""
    made = getattr(nn, name(layer))(INPUTS, UNITS, dtype=layer.weight_ih_l0.dtype)
    made.load_state_dict({n: v.detach() for n, v in layer.state_dict().items()})
    return made


def parts(state: Any) -> tuple[Tensor, ...]:
    """The tensors of a state."""
    return state if isinstance(state, tuple) else (state,)


class Model(nn.Module):
    """A layer within a model that takes its output alone."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.layer(x)
        return output
