"""Add layer normalisation to the recurrences of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import nn

from steadygrad.cells import GRU, LSTM, Cell, Elman, ElmanLayerNorm, GRULayerNorm, LSTMLayerNorm
from steadygrad.flow import recurrent_layers
from steadygrad.nn import Recurrent, cell_of
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, example, seeded
from steadygrad.remedies.unsuitable import no_recurrence


@final
@dataclass(frozen=True)
class LayerNorm(Remedy):
    r"""Replace each RNN, LSTM or GRU by the same cell with layer normalisation inside.

    .. math::
        R h \;\rightarrow\; \gamma \odot \frac{R h - \overline{R h}}
        {\sqrt{\operatorname{var} R h + 10^{-5}}} + \beta

    The gates keep their operating point however large the weights become: a matrix that is too
    large neither saturates them nor explodes the gradient, because the Jacobian is divided by the
    scale of :math:`R h`. All weights and biases are copied; gains start at ``gain``, and the new
    layer, one of ours, has the old one's interface.

    Hooks on the old layer are not copied, so apply this before anything that watches the model.

    Args:
        gain: Initial gains. Smaller ones keep the gates away from saturation.

    References:
        Ba, Kiros and Hinton, *Layer Normalization*, 2016, section 3.1.
        Cooijmans et al., *Recurrent Batch Normalization*, 2017, section 3 (gains of 0.1 against
        vanishing).
    """

    name: ClassVar[str] = "layer-norm"
    claim: ClassVar[str] = (
        "Scaling all weights of the recurrence by any positive number has no effect"
    )
    helps: ClassVar[tuple[str, ...]] = (
        "exploding",
        "saturated",
        "vanishing-depth",
        "exploding-depth",
    )
    rank: ClassVar[Mapping[str, int]] = {"vanishing-depth": 20, "exploding-depth": 10}
    other: ClassVar[Mapping[str, Any]] = {"gain": 0.1}

    gain: float = 1.0

    def __post_init__(self) -> None:
        self.expect("gain", 0 < self.gain < float("inf"), "a finite number above 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        if any(True for _, m in recurrent_layers(model) if m is model):
            return "it is itself the layer to replace; put it inside a module, such as a Sequential"
        reason = no_recurrence(model)
        if reason is not None or any(_normed(m) for _, m in recurrent_layers(model)):
            return reason
        return "it holds no RNN, LSTM or GRU without projection whose cell could be normalised"

    def change(self, model: nn.Module, applied: Applied) -> None:
        for path, old in list(recurrent_layers(model)):
            cell = _normed(old)
            if cell is not None:
                applied.replace(model, old, self._twin(old, cell))
                applied.note(f"{path}: layer normalisation put into its {cell_of(old).name}")

    @torch.no_grad()
    def _twin(self, old: nn.Module, cell: Cell) -> nn.Module:
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        options: dict[str, Any] = {name: getattr(old, name) for name in names}
        weight: Any = old.weight_hh_l0
        sizes: Any = (old.input_size, old.hidden_size)
        if isinstance(old, Recurrent):  # what bounds or cuts its gradient is part of what it does
            names = ("truncate", "checkpoint", "burn_in", "learn_initial_state")
            options |= {name: getattr(old, name) for name in names}
        new = Recurrent(cell, *sizes, **options, device=weight.device, dtype=weight.dtype)
        if isinstance(old, Recurrent):
            new.loop_clip = old.loop_clip
        carried = dict(old.named_parameters())
        for name, parameter in new.named_parameters():
            if name in carried:
                parameter.copy_(carried[name])
            elif name.startswith("gain"):
                parameter.fill_(self.gain)
        return new.train(old.training)

    @seeded
    def demonstrate(self) -> Demonstration:
        model, x = example(self)
        self.apply(model)
        outputs = []
        for _ in range(2):  # large weights, so that the 1e-5 under the root is negligible
            with torch.no_grad():
                for name, parameter in model.rnn.named_parameters():
                    if name.startswith(("weight", "bias")):
                        parameter.mul_(100.0)
                outputs.append(model(x))
        change = float((outputs[1] - outputs[0]).abs().max())
        return Demonstration(f"weights times 100: outputs change by {change:.1g}", change < 1e-5)


def _normed(layer: nn.Module) -> Cell | None:
    """The normalised form of a layer's cell, or None."""
    if getattr(layer, "proj_size", 0):
        return None
    cell = cell_of(layer)
    if isinstance(cell, Elman):
        return ElmanLayerNorm(cell.nonlinearity)
    if isinstance(cell, LSTM):
        return LSTMLayerNorm()
    return GRULayerNorm() if isinstance(cell, GRU) else None
