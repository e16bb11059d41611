"""Gradients of the weights from those stored by a backward loop: one product or sum each."""

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from steadygrad.scan.call import ScanCall
from steadygrad.scan.ir.products import by_gate
from steadygrad.scan.ir.program import Product
from steadygrad.scan.projection import weight_gradient


def of_input(call: ScanCall, pre: Tensor, wanted: Set[str]) -> dict[str, Tensor]:
    """Gradients of ``x``, ``weight_ih`` and ``bias_ih``.

    Args:
        call: The call.
        pre: ``(N, G*H)``, the gradient at the projected input.
        wanted: Names of the requested gradients.
    """
    grads: dict[str, Tensor] = {}
    if "x" in wanted:
        grads["x"] = pre @ call.weights.weight_ih
    if "weight_ih" in wanted:
        grads["weight_ih"] = weight_gradient(pre, call.x, call.weights.weight_ih)
    if "bias_ih" in wanted:
        grads["bias_ih"] = pre.sum(0)
    return grads


def of_recurrence(
    call: ScanCall,
    products: Mapping[Product, Tensor],
    arguments: Mapping[Product, Tensor],
    wanted: Set[str],
) -> dict[str, Tensor]:
    """Gradients of ``weight_hh`` and ``bias_hh``; zero where no product reads a row.

    Args:
        call: The call.
        products: Per product the gradient at its result, ``(N, g*H)``.
        arguments: Per product its argument, ``(N, ·)``.
        wanted: Names of the requested gradients.
    """
    grads: dict[str, Tensor] = {}
    for name in ("weight_hh", "bias_hh"):
        if name not in wanted:
            continue
        rows: dict[str, Tensor] = {}
        for item, grad in products.items():
            whole = grad.t() @ arguments[item] if name == "weight_hh" else grad.sum(0)
            for gate, part in zip(item.gates, whole.split(call.size), strict=True):
                rows[gate] = rows[gate] + part if gate in rows else part
        stacked = getattr(call.weights, name)
        parts = by_gate(call.cell, stacked, call.size).items()
        found = [rows.get(gate, torch.zeros_like(block)) for gate, block in parts]
        grads[name] = torch.cat(found) if found else torch.zeros_like(stacked)
    return grads
