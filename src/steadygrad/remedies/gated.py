"""Gating: replace a plain recurrence by one with an additive memory."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import nn

from steadygrad import nn as sg
from steadygrad.init import gate_bias_
from steadygrad.init.blocks import row_blocks
from steadygrad.nn import Recurrent
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, passes_without_weights
from steadygrad.remedies.hidden_only import HiddenOnly
from steadygrad.remedies.recurrences import Recurrence, is_plain_layer, recurrences
from steadygrad.remedies.unsuitable import no_recurrence


@final
@dataclass(frozen=True)
class Gated(Remedy):
    r"""Replace each plain recurrent layer by a GRU or an LSTM of the same size.

    .. math::
        h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1} \quad\Rightarrow\quad
        \frac{\partial h_t}{\partial h_{t-1}} = \operatorname{diag}(z_t) + \dots

    The first term passes the gradient without a matrix, and the network learns where it is near
    one. The new layer takes ``(x, h_0)`` and returns ``(y, h_n)`` like the old one. It has three
    or four times the weights; all but the carried ones are new.

    Hooks on the old layer are not copied, so apply this before anything that watches the model.

    Args:
        cell: ``"gru"``, or ``"lstm"``, whose cell state starts at 0 in every call and is not
            returned (a state carried between windows     is h alone).
        forget_bias: Bias of the keeping gate; None keeps the layer's own initial value. (A layer
            without biases gets none.)
        carry: Whether the candidate takes over the old layer's input weights and input bias.

    References:
        Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997.
        Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder for Statistical
        Machine Translation*, 2014 (the GRU).
        Jozefowicz, Zaremba and Sutskever, *An Empirical Exploration of Recurrent Network
        Architectures*, 2015 (forget bias).
    """

    name: ClassVar[str] = "gated"
    claim: ClassVar[str] = (
        "Even with the recurrent matrix at zero the gradient passes each step, times its gate"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding", "saturated", "dead", "growing")
    rank: ClassVar[Mapping[str, int]] = {
        "vanishing": 30,
        "exploding": 30,
        "saturated": 20,
        "dead": 30,
        "growing": 10,
    }
    other: ClassVar[Mapping[str, Any]] = {"cell": "lstm", "forget_bias": None, "carry": False}

    cell: Literal["gru", "lstm"] = "gru"
    forget_bias: float | None = 1.0
    carry: bool = True

    def __post_init__(self) -> None:
        self.expect("cell", self.cell in ("gru", "lstm"), "'gru' or 'lstm'")
        value = self.forget_bias
        finite = value is None or abs(value) < float("inf")
        self.expect("forget_bias", finite, "a finite number or none")

    def unsuitable(self, model: nn.Module) -> str | None:
        if is_plain_layer(model):
            return "it is itself the layer to replace; put it inside a module, such as a Sequential"
        reason = no_recurrence(model)
        if reason is not None or any(map(is_plain_layer, model.modules())):
            return reason
        return "it holds no plain recurrent layer (an RNN) to replace"

    def change(self, model: nn.Module, applied: Applied) -> None:
        plain = [(path, m) for path, m in model.named_modules() if is_plain_layer(m)]
        for path, old in plain:
            applied.replace(model, old, self._twin(old))
            applied.note(f"{path}: plain recurrence replaced by {self.cell.upper()}")

    def _twin(self, old: nn.Module) -> nn.Module:
        """Build the gated layer that replaces ``old``, torch's or ours like it."""
        family: Any = sg if isinstance(old, Recurrent) else nn
        kind = family.GRU if self.cell == "gru" else family.LSTM
        weight: Any = old.weight_hh_l0
        options: dict[str, Any] = {
            name: getattr(old, name)
            for name in ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        }
        sizes: Any = (old.input_size, old.hidden_size)
        if isinstance(old, Recurrent):
            options |= {"learn_initial_state": old.learn_initial_state, "burn_in": old.burn_in}
        new = kind(*sizes, **options, device=weight.device, dtype=weight.dtype)
        new.train(old.training)
        if isinstance(old, Recurrent):  # clips and truncation of the old layer are kept
            new.truncate, new.loop_clip = old.truncate, old.loop_clip
        for source, target in zip(recurrences(old), recurrences(new), strict=True):
            if self.carry:
                _carry(source, target)
            if self.forget_bias is not None and old.bias:
                _open(target, self.forget_bias)
        return HiddenOnly(new).train(old.training) if self.cell == "lstm" else new

    @classmethod
    def fitted(cls, lag: int) -> tuple[Self, ...]:
        """As in `ForgetBias`: about 1/e is left after ``lag`` steps."""
        return (cls(forget_bias=max(1.0, round(math.log(lag), 2))),)

    def demonstrate(self) -> Demonstration:
        return passes_without_weights(self, "state")


@torch.no_grad()
def _carry(source: Recurrence, target: Recurrence) -> None:
    """Give the candidate of ``target`` the input weights and input bias of ``source``."""
    candidate = target.gates.index("candidate")
    for stem in ("weight_ih", "bias_ih"):
        old, new = source.find(stem), target.find(stem)
        if old is not None and new is not None:
            row_blocks(new, len(target.gates))[candidate].copy_(old)


def _open(target: Recurrence, value: float) -> None:
    """Set the bias of the keeping gate: the sum of the layer's two biases."""
    gate = target.gates.index(target.keeping_gate or "")
    value *= target.keeping_sign
    gate_bias_(target.parameter("bias_ih"), len(target.gates), gate, value)
    gate_bias_(target.parameter("bias_hh"), len(target.gates), gate, 0.0)
