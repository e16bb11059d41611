"""Decompose operations into those of `steadygrad.scan.ir.operations`."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx

from steadygrad.scan.ir.operations import KNOWN, POINTWISE, to_real

aten = torch.ops.aten


def unknown(graph: fx.Graph) -> list[str]:
    """Names of operations that are in none of our tables.

    Raises:
        TypeError: The step draws random numbers.
    """
    calls = [n for n in graph.nodes if n.op == "call_function"]
    for node in calls:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise TypeError(
                f"a cell's step draws random numbers ({node.target}); the backward pass "
                "could not see the same ones: state them in `Cell.noise`"
            )
    fine = {*KNOWN, *CONSTANTS, aten._to_copy.default}  # the last two: see `as_real`
    return [str(n.target) for n in calls if n.target not in fine]


def _variance(
    a: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> Tensor:
    mean = a.mean(dim, keepdim=True)
    square = ((a - mean) * (a - mean)).sum(dim, keepdim=keepdim)
    (axis,) = dim
    return square / (a.shape[axis] - (1 if correction is None else correction))


def _layer_norm(
    a: Tensor, shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean = a.mean(-1, keepdim=True)
    scale = torch.rsqrt(((a - mean) * (a - mean)).mean(-1, keepdim=True) + eps)
    out = (a - mean) * scale
    out = out if weight is None else out * weight
    return (out if bias is None else out + bias), mean, scale


@lru_cache(maxsize=1)
def simplified() -> dict[Any, Callable[..., Any]]:
    """The decompositions: torch's tables without the operations that back ends support directly."""
    from torch._decomp import core_aten_decompositions, get_decompositions

    more = (
        aten._softmax, aten._log_softmax, aten.gelu, aten.leaky_relu, aten.elu, aten.silu,
        aten.mish, aten.hardtanh, aten.linalg_vector_norm, aten.prelu,
        aten.nan_to_num, aten.isinf, aten.threshold, aten.var_mean, aten.std,
    )  # fmt: skip
    table: dict[Any, Callable[..., Any]] = {
        **core_aten_decompositions(),
        **get_decompositions(more),
        aten.var.correction: _variance,
        aten.native_layer_norm.default: _layer_norm,
    }
    return {target: way for target, way in table.items() if target not in KNOWN}


CONSTANTS: dict[object, Callable[..., Any]] = {
    aten.full.default: lambda size, value: value,
    aten.full_like.default: lambda a, value: value,
    aten.new_full.default: lambda a, size, value: value,
    aten.zeros.default: lambda size: 0.0,
    aten.zeros_like.default: lambda a: 0.0,
    aten.new_zeros.default: lambda a, size: 0.0,
    aten.ones.default: lambda size: 1.0,
    aten.ones_like.default: lambda a: 1.0,
    aten.new_ones.default: lambda a, size: 1.0,
    aten.fill.Scalar: lambda a, value: value,
    aten.empty_like.default: lambda a: 0.0,  # operations that fill a tensor
    aten.empty_permuted.default: lambda size, order: 0.0,
}
"""Operations that make a constant tensor, and its value."""


def as_real(graph: fx.Graph, like: fx.Node) -> None:
    """Remove the dtype of the trace from a graph, so that it runs in any dtype.

    A tensor of one number becomes a number where it is only used as one; a conversion to a floating
    dtype becomes one to the dtype of the stage's input.
    """
    for node in list(graph.nodes):
        if node.target in CONSTANTS and all(u.target in POINTWISE for u in node.users):
            value = CONSTANTS[node.target](*node.args)
            with graph.inserting_before(node):
                exact = graph.call_function(
                    aten.scalar_tensor.default, (value,), {"dtype": torch.float64}
                )
                # torch.where of two numbers would give a float64 tensor.
                made = graph.call_function(to_real, (exact, like))
            node.replace_all_uses_with(made)
            graph.erase_node(node)
        elif node.target is aten._to_copy.default:
            dtype = node.kwargs.get("dtype")
            if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
                with graph.inserting_before(node):
                    made = graph.call_function(to_real, (node.args[0], like))
                node.replace_all_uses_with(made)
                graph.erase_node(node)
