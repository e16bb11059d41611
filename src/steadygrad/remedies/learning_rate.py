"""Learning rate: scale the steps of any optimiser and schedule."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, example, norm, seeded
from steadygrad.remedies.patch import Names, Patch
from steadygrad.remedies.unsuitable import no_trainable_parameter


@final
@dataclass(frozen=True)
class LearningRate(Remedy):
    r"""Make every step of the optimiser ``factor`` times as long.

    .. math:: \eta \leftarrow \text{factor} \cdot \eta

    The rate is changed during the optimiser's step and restored after it, so that a schedule
    continues unchanged and is scaled as a whole. Weight decay that is coupled to
    the rate (AdamW) is scaled with it.

    It acts from `begin` on, which takes the optimiser.

    Args:
        factor: Above 0.

    References:
        Bengio, *Practical Recommendations for Gradient-Based Training of Deep Architectures*,
        2012, section 3.1.1 (the first hyper-parameter to tune, by factors).
    """

    name: ClassVar[str] = "learning-rate"
    claim: ClassVar[str] = "A step of gradient descent is factor times as long"
    helps: ClassVar[tuple[str, ...]] = ("lr-high", "lr-low", "clip-tight")
    other: ClassVar[Mapping[str, Any]] = {"factor": 10.0}

    factor: float = 0.1

    def __post_init__(self) -> None:
        self.expect("factor", 0 < self.factor < float("inf"), "a number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        return no_trainable_parameter(model)

    def on_optimizer(
        self, optimizer: torch.optim.Optimizer, model: nn.Module
    ) -> Iterable[RemovableHandle]:
        rates: list[Any] = []

        def scale(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            rates[:] = [group["lr"] for group in optimizer.param_groups]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = self.factor * rate

        def put_back(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

        return (
            optimizer.register_step_pre_hook(scale),
            optimizer.register_step_post_hook(put_back),
        )

    def patch(self, model: nn.Module, names: Names | None = None) -> Patch:
        groups = f"{(names or Names()).optimizer}.param_groups"
        return Patch(
            optimizer=(f"for group in {groups}:", f'    group["lr"] *= {self.factor!r}'),
        )

    @seeded
    def demonstrate(self) -> Demonstration:
        lengths = []
        for is_treated in (False, True):
            model, _ = example(self)
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            if is_treated:
                self.begin(model, optimizer)
            before = [p.detach().clone() for p in model.parameters()]
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()
            moved = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
            lengths.append(norm(moved))
        text = (
            f"a step of gradient descent of length {lengths[0]:.3g} becomes {lengths[1]:.3g} long"
        )
        return Demonstration(text, math.isclose(lengths[1], self.factor * lengths[0], rel_tol=1e-6))
