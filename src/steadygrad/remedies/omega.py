"""Pascanu's regulariser: the backpropagated error should keep its norm at every step."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.cells import Named
from steadygrad.flow.walk import Leg
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, penalty_falls
from steadygrad.remedies.run import Run
from steadygrad.remedies.unsuitable import no_recurrent_matrix, not_walkable
from steadygrad.scan.ir.products import by_gate

SMALLEST = 1e-20  # squared norms below it count as no error signal, with ratio 1


@final
@dataclass(frozen=True)
class Omega(Remedy):
    r"""Add :math:`\alpha\,\Omega`, which is 0 if no step changes the norm of the error.

    .. math::
        \Omega = \frac{1}{|K|} \sum_{k \in K} (q_k - 1)^2, \qquad
        q_k = \frac{\lVert \delta_{k}\, \partial s_{k} / \partial s_{k-1} \rVert^2}
        {\lVert \delta_k \rVert^2}, \qquad \delta_k = \frac{\partial L}{\partial s_k}

    over all steps and sequences :math:`K` whose :math:`\lVert \delta_k \rVert^2 \ge 10^{-20}`; for
    the others :math:`q_k = 1`. Only the *immediate* derivative with respect to the recurrent matrix
    is taken: states, errors and slopes are constants, and :math:`R` counts only in the last
    product of each error. So the gradient of :math:`\Omega` reaches ``weight_hh`` alone, and costs
    one more forward and backward pass. A state of several parts (an LSTM's h and c) counts as one.

    It constrains the growth in the direction of the error, not the whole spectrum. The norm can
    still grow where a state saturates: add a clip by norm after it.

    Args:
        alpha: Weight of the penalty. Published: 4 for temporal order, 2 for varying length and
            3 bits, 0.5 for addition and multiplication, 1 for permutation and memorisation.
        form: ``"squared"``, equation 10 and the authors' code, or ``"norm"``, equation 9, where
            :math:`q_k` is the ratio of the norms themselves. The two differ in print.

    References:
        Pascanu, Mikolov and Bengio, *On the Difficulty of Training Recurrent Neural Networks*,
        2013, section 3.3.
    """

    name: ClassVar[str] = "omega"
    claim: ClassVar[str] = (
        "Minimising it brings the error's growth per step to 1; it moves weight_hh alone"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing",)
    also_try: ClassVar[tuple[Mapping[str, Any], ...]] = ({"alpha": 4.0},)
    sees_calls: ClassVar[bool] = True
    other: ClassVar[Mapping[str, Any]] = {"alpha": 4.0, "form": "norm"}

    alpha: float = 1.0
    form: Literal["squared", "norm"] = "squared"

    def __post_init__(self) -> None:
        self.expect("alpha", 0 < self.alpha < float("inf"), "a finite number above 0")
        self.expect("form", self.form in ("squared", "norm"), "'squared' or 'norm'")

    def unsuitable(self, model: nn.Module) -> str | None:
        return not_walkable(model) or no_recurrent_matrix(model)

    def penalty(self, run: Run) -> Tensor:
        by_layer: dict[str, list[Tensor]] = defaultdict(list)
        for name, leg in run.legs:
            if leg.cell.recurrent:  # otherwise there is no R to change
                by_layer[name.partition("#")[0]].append(growth(leg, self.form))
        # averaged over all rows of all calls of a layer, summed over layers
        means = [(torch.cat(rows) - 1).square() for rows in by_layer.values()]
        total = sum((m.sum() / max(1, m.numel()) for m in means), run.loss.new_zeros(()))
        return self.alpha * total

    def demonstrate(self) -> Demonstration:
        return penalty_falls(self)


def growth(leg: Leg, form: str) -> Tensor:
    """The factors ``(K,)`` by which steps change the norm of the error, where there is one."""
    size = sum(g.square().sum(1) for g in leg.grads)
    assert isinstance(size, Tensor)
    valid = size >= SMALLEST
    if not bool(valid.any()):
        return size[:0]
    passed = [g[valid] for g in one_step_back(leg)]
    after = sum(g.square().sum(1) for g in passed)
    ratio = after / size[valid]
    # The root has infinite slope at a ratio of 0 (dead units), hence the smallest number.
    return ratio if form == "squared" else ratio.clamp_min(1e-30).sqrt()


def one_step_back(leg: Leg) -> tuple[Tensor, ...]:
    """The error of each row one step earlier, as a function of the last recurrent product."""
    size = leg.projected.shape[1] // len(leg.cell.gates)
    read = dict(zip(leg.cell.gates, leg.projected.split(size, 1), strict=True))
    unit: dict[str, Tensor] = {}
    for name, value in leg.weights.per_step(leg.cell, leg.layout).items():
        # Noise is read like a gate, constants like per-unit parameters.
        own = read if name.startswith("n.") else unit
        own[name[2:]] = value.detach().expand(len(leg.projected), size)
    with torch.enable_grad():
        before = tuple(s.detach().requires_grad_() for s in leg.before)
        after = list(
            leg.cell.step(
                Named("gate", read),
                _last_products(leg, size),
                before,
                Named("per-unit parameter", unit),
            )
        )
        if leg.weights.weight_hr is not None:
            after[0] = F.linear(after[0], leg.weights.weight_hr.detach())
        sent = [(a, g) for a, g in zip(after, leg.grads, strict=True) if a.requires_grad]
        found = torch.autograd.grad(
            [a for a, _ in sent],
            before,
            [g for _, g in sent],
            create_graph=True,
            allow_unused=True,  # for a state that the step does not read
        )
    pairs = zip(before, found, strict=True)
    return tuple(torch.zeros_like(s) if g is None else g for s, g in pairs)


def _last_products(leg: Leg, size: int) -> Named[Any]:
    names, bias = leg.cell.recurrent, leg.weights.bias_hh
    matrices = by_gate(leg.cell, leg.weights.weight_hh, size)
    biases = dict.fromkeys(names) if bias is None else by_gate(leg.cell, bias, size)
    return Named(
        "recurrent product",
        {g: lambda v, g=g: _LastProduct.apply(v, matrices[g], biases[g]) for g in names},
    )


class _LastProduct(torch.autograd.Function):
    """``v R^T + b`` in which R is differentiated only in the backward pass of the error."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        ctx.matrix = matrix
        return F.linear(v, matrix, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].detach() @ ctx.matrix, None, None
