"""How much of the gradient arrives at the lag, by nothing but autograd on float64 tensors.

Each time step is one call of the layer, so that every state is a tensor of its own whose gradient
autograd keeps. Of the tool under test only the layer's forward pass is used.
"""

import copy
import math

import torch
from torch import Tensor

from benchmarks.faults.network import Network
from steadygrad.tasks import Benchmark

State = Tensor | tuple[Tensor, ...]


def travelled(model: Network, task: Benchmark, rows: int = 16) -> list[float | None]:
    """log10 of |dL/ds_(T-k)| / |dL/ds_T| for k = 0, 1, ...; L is a functional of the last answer.

    ``s`` is the whole state, of all layers and all parts (h and c).
    """
    double = copy.deepcopy(model).double()
    layer = double.recurrent
    layer.backend, layer.truncate = "eager", None
    batch = task.batches("val", rows)[0]
    x = batch.inputs.double()
    states: list[tuple[Tensor, ...]] = []
    state: State | None = None
    for t in range(len(x)):
        last: State = layer(x[t : t + 1], state)[1]
        parts = (last,) if isinstance(last, Tensor) else last
        state = last
        for part in parts:
            part.retain_grad()
        states.append(parts)
    output = double.head(states[-1][0][-1])
    # Any functional of the last answer will do; the loss's own may have no gradient at a few rows.
    weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    (output * weight).sum().backward()
    norms = [
        math.sqrt(sum(float(p.grad.square().sum()) for p in parts if p.grad is not None))
        for parts in states
    ]
    if not all(map(math.isfinite, norms)) or norms[-1] == 0:
        return [None] * len(norms)
    return [round(math.log10(n / norms[-1]), 3) if n > 0 else -math.inf for n in norms[::-1]]
