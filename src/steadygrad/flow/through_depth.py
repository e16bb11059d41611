"""The gradient layer by layer: how much of it reaches the first layers of a deep network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.flow.answers import Answers
from steadygrad.flow.graph_uses import GraphUses, graph_uses
from steadygrad.flow.loss_graph import Slips, slips_in
from steadygrad.flow.output_probe import OutputProbe
from steadygrad.flow.quantity import Quantity, declare
from steadygrad.scan import Tap, log10_sum_squares

QUANTITIES: tuple[Quantity, ...] = (
    declare(
        Quantity(
            "through_depth", "1", "How much of the gradient reaches each layer of a deep network."
        )
    ),
    declare(
        Quantity(
            "log10_share",
            "log10",
            "Gradient at the lowest layer of a stack, over that at the top one.",
            title="Gradient in depth",
            at_look=lambda flows: min(
                (f.depth.lowest[1] for f in flows.values() if f.depth is not None), default=None
            ),
        )
    ),
)

DEEP: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers of networks without recurrence."""


@dataclass(frozen=True)
class DepthCurve:
    r"""How much of the gradient at the top of a deep network reaches each of its layers.

    .. math::
        D_l = \log_{10} \frac{\max_t |\partial L / \partial s_{l,t}|}
            {\max_t |\partial L / \partial s_{\text{top},t}|}

    Attributes:
        layers: Names, the lowest first.
        log10_share: ``(L,)``, :math:`D_l`; the last is 0.
    """

    layers: tuple[str, ...]
    log10_share: NDArray[np.float64]

    @property
    def lowest(self) -> tuple[str, float]:
        """The first layer, and how much reaches it.

        It is the one that tells what depth costs: on the way there a branch may get less by design,
        as one that starts at zero beside a residual connection.
        """
        return self.layers[0], float(self.log10_share[0])

    @property
    def largest(self) -> tuple[str, float]:
        """The layer that most reaches, and how much that is."""
        at = int(np.argmax(self.log10_share))
        return self.layers[at], float(self.log10_share[at])


def depth_of(taps: Sequence[tuple[str, Tap]]) -> DepthCurve | None:
    """Depth of a stack of recurrences, the lowest first; None if there is one layer alone."""
    sizes: dict[str, float] = {}
    for name, tap in taps:  # the two directions of a layer are one
        joint = log10_sum_squares(tap.log10_norm.movedim(0, -1))
        over_batch = log10_sum_squares(joint.masked_fill(~tap.present.to(joint.device), -torch.inf))
        layer = name.removesuffix("_reverse")
        sizes[layer] = max(sizes.get(layer, -np.inf), float(over_batch.max()))
    return of_norms(sizes)


def of_norms(log10_norm: dict[str, float]) -> DepthCurve | None:
    """Depth from the gradient at each layer, the lowest first; None if that tells nothing."""
    values = np.array(list(log10_norm.values()))
    if len(values) < 2 or not np.isfinite(values[-1]) or np.isnan(values).any():
        return None
    return DepthCurve(tuple(log10_norm), values - values[-1])


def gradient_through_depth(
    model: nn.Module, loss_fn: Callable[[], Tensor], kinds: tuple[type[nn.Module], ...] = ()
) -> dict[str, float]:
    r"""Measure :math:`\log_{10} \lVert \partial L / \partial z_l \rVert` at the output of layers.

    Norms are over the whole output, batch included; a layer called twice counts the sum of its
    squares. Zero is ``-inf``. The model is not touched: ``.grad`` stays as it was.

    Args:
        model: Any model.
        loss_fn: Computes the scalar loss of one batch with ``model``.
        kinds: Modules to look at; `torch.nn.Linear` and the convolutions if not given.

    Returns:
        By the name of the module, in the order of the forward pass.

    Raises:
        ValueError: No such layer was called, or the loss is no scalar with a gradient.
    """
    return measured_through_depth(model, loss_fn, kinds).log10_norm


@dataclass(frozen=True)
class InDepth:
    """What one loss says about the layers of a model.

    Attributes:
        loss: Its value.
        log10_norm: By layer, log10 of the norm of the gradient at its output.
        parameter_norms: Norm of the gradient of each parameter by name; None where unused.
        calls: How often each layer was called.
        answers: The model's outputs and targets, where the loss gives them away.
        slips: What the graph of the loss shows.
        uses: How the graph of the loss uses the parameters.
    """

    loss: float
    log10_norm: dict[str, float]
    parameter_norms: dict[str, float | None]
    calls: dict[str, int]
    answers: Answers | None = None
    slips: Slips | None = None
    uses: GraphUses | None = None


def measured_through_depth(
    model: nn.Module, loss_fn: Callable[[], Tensor], kinds: tuple[type[nn.Module], ...] = ()
) -> InDepth:
    """As `gradient_through_depth`, with what else was seen."""
    kinds = kinds or DEEP
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(_noting(seen, name))
        for name, module in deep_layers(model, kinds)
    ]
    probe = OutputProbe(model)
    try:
        with torch.enable_grad():
            loss = loss_fn()
    finally:
        probe.close_hook()
        for handle in handles:
            handle.remove()
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            "gradient_through_depth: loss_fn must return a scalar loss with a gradient, got "
            f"{shape}"
        )
    flat = [(name, value) for name, values in seen.items() for value in values]
    if not flat:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"gradient_through_depth: loss_fn called no layer of kind {names}")
    slips = slips_in(loss.grad_fn)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    wanted = [*(v for _, v in flat), *trained.values()]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
    uses = graph_uses(loss.grad_fn, model, may_run=True)
    squares = dict.fromkeys(seen, 0.0)
    used: set[str] = set()
    for (name, _), grad in zip(flat, grads, strict=False):
        if grad is not None:
            used.add(name)
            squares[name] += float(grad.double().square().sum())
    norms = {
        n: None if g is None else float(g.norm())
        for n, g in zip(trained, grads[len(flat) :], strict=True)
    }
    # What the loss does not read at all, as a target network, is no layer that it misses.
    found = {n: float(torch.tensor(s).sqrt().log10()) for n, s in squares.items() if n in used}
    calls = {name: len(values) for name, values in seen.items()}
    told = float(loss.detach())
    return InDepth(told, found, norms, calls, probe.answers(told), slips, uses)


def deep_layers(
    model: nn.Module, kinds: tuple[type[nn.Module], ...] = DEEP
) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of the layers at which a gradient is looked at in depth."""
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            yield name or type(module).__name__.lower(), module


def _noting(seen: dict[str, list[Tensor]], name: str) -> Any:
    def note(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            seen.setdefault(name, []).append(output)

    return note
