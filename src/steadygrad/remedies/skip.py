"""Skip connections: a path for the gradient around each recurrent layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from steadygrad.flow import recurrent_layers
from steadygrad.nn import Recurrent
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, passes_without_weights
from steadygrad.remedies.unsuitable import no_layer_to_see


@final
@dataclass(frozen=True)
class Skip(Remedy):
    r"""Add the input of each recurrent layer to its output.

    .. math::
        y_t \leftarrow y_t + \text{scale} \cdot P x_t \quad\Rightarrow\quad
        \frac{\partial L}{\partial x_t} = \text{scale} \cdot P^\top
        \frac{\partial L}{\partial y_t} + \dots

    with :math:`P = I` for equal widths, and otherwise a learned matrix. The gradient at a time step
    bypasses the recurrence to the layer below: in a stack it does not decay with depth, and inputs
    close to the loss have an immediate effect. Along time nothing changes. A stack in one module is
    split into single layers, so that each has its own skip connection.

    Args:
        scale: Factor on the added input.

    References:
        He, Zhang, Ren and Sun, *Deep Residual Learning for Image Recognition*, 2016.
        Wu et al., *Google's Neural Machine Translation System*, 2016, section 3.1 (LSTM stacks).
    """

    name: ClassVar[str] = "skip"
    claim: ClassVar[str] = (
        "A step's gradient reaches its input even where the layer itself passes nothing"
    )
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "vanishing-depth")
    rank: ClassVar[Mapping[str, int]] = {"vanishing-depth": 10}
    other: ClassVar[Mapping[str, Any]] = {"scale": 0.5}

    scale: float = 1.0

    def __post_init__(self) -> None:
        self.expect("scale", 0 < abs(self.scale) < float("inf"), "a finite number other than 0")

    def unsuitable(self, model: nn.Module) -> str | None:
        if any(True for _, m in recurrent_layers(model) if m is model):
            return "it is itself the layer to go around; put it inside a module"
        for path, layer in recurrent_layers(model):
            if int(getattr(layer, "num_layers", 1)) > 1 and is_parametrized(layer):
                return f"the weights of {path} are parametrised, and its layers are not told apart"
        return no_layer_to_see(model)

    def change(self, model: nn.Module, applied: Applied) -> None:
        for path, layer in list(recurrent_layers(model)):
            singles = taken_apart(layer)
            each = [Around(single, self.scale) for single in singles]
            whole = (
                each[0]
                if len(each) == 1
                else AroundEach(each, float(getattr(layer, "dropout", 0.0)))
            )
            applied.replace(model, layer, whole.train(layer.training))
            how = "a learned matrix" if each[0].project is not None else "the identity"
            what = "the layer" if len(each) == 1 else f"each of {len(each)} layers"
            applied.note(f"{path}: input added to the output of {what}, by {how}")

    def demonstrate(self) -> Demonstration:
        return passes_without_weights(self, "input")


@final
class Around(nn.Module):
    """A recurrent layer whose input is added to its output, with the layer's interface.

    Args:
        layer: The wrapped layer, a submodule, so that searches for recurrent layers find it.
        scale: Factor on the input.
    """

    def __init__(self, layer: nn.Module, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale
        facts: Any = layer
        output_size = int(getattr(layer, "proj_size", 0)) or int(facts.hidden_size)
        output_size *= 2 if facts.bidirectional else 1
        self.project: nn.Linear | None = None
        if facts.input_size != output_size:
            like = next(layer.parameters())
            self.project = nn.Linear(
                facts.input_size, output_size, bias=False, device=like.device, dtype=like.dtype
            )

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, *args: Any, **named: Any
    ) -> tuple[Any, Any]:
        output, last = self.layer(input, hx, *args, **named)
        if isinstance(output, PackedSequence):
            assert isinstance(input, PackedSequence)
            return output._replace(data=output.data + self._added(input.data)), last
        assert isinstance(input, Tensor)
        return output + self._added(input), last

    def _added(self, x: Tensor) -> Tensor:
        return torch.mul(x if self.project is None else self.project(x), self.scale)


@final
class AroundEach(nn.Module):
    """A stack split into single layers with skip connections, with the stack's interface.

    Args:
        layers: The single layers, lowest first.
        dropout: Dropout between the layers, as in the stack.
    """

    def __init__(self, layers: Sequence[Around], dropout: float) -> None:
        super().__init__()
        self.layers, self.dropout = nn.ModuleList(layers), nn.Dropout(dropout)

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, *args: Any, **named: Any
    ) -> tuple[Any, Any]:
        given = () if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
        parts = list(zip(*(s.chunk(len(self.layers)) for s in given), strict=True))
        ends: list[tuple[Tensor, ...]] = []
        is_bare, x = True, input
        for index, layer in enumerate(self.layers):
            if index:
                x = self._dropped(x)
            start = None if not parts else parts[index][0] if len(given) == 1 else parts[index]
            x, last = layer(x, start, *args, **named)
            is_bare = isinstance(last, Tensor)
            ends.append((last,) if isinstance(last, Tensor) else tuple(last))
        states = tuple(torch.cat(each) for each in zip(*ends, strict=True))
        return x, states[0] if is_bare else states

    def _dropped(self, x: Any) -> Any:
        if isinstance(x, PackedSequence):
            return x._replace(data=self.dropout(x.data))
        return self.dropout(x)


@torch.no_grad()
def taken_apart(layer: nn.Module) -> list[nn.Module]:
    """Split a stack into equivalent single layers; a single layer is returned itself."""
    facts: Any = layer
    if facts.num_layers == 1:
        return [layer]
    like = next(layer.parameters())
    options = {n: getattr(facts, n) for n in ("bias", "batch_first", "bidirectional", "proj_size")}
    is_ours = isinstance(layer, Recurrent)
    if is_ours:
        options |= {"truncate": layer.truncate, "backend": layer.backend}
        options |= {"checkpoint": layer.checkpoint, "burn_in": layer.burn_in}
        options |= {"learn_initial_state": layer.learn_initial_state}
    elif isinstance(layer, nn.RNN):
        del options["proj_size"]
        options["nonlinearity"] = layer.nonlinearity
    elif isinstance(layer, nn.GRU):
        del options["proj_size"]
    given = dict(layer.named_parameters())
    singles: list[nn.Module] = []
    width = facts.input_size
    for index in range(facts.num_layers):
        options |= {"device": like.device, "dtype": like.dtype}
        sizes = (width, facts.hidden_size)
        kind: Any = type(layer)
        single = Recurrent(facts.cell, *sizes, **options) if is_ours else kind(*sizes, **options)
        for name, parameter in single.named_parameters():
            old = given[name.replace("_l0", f"_l{index}")]
            parameter.copy_(old).requires_grad_(old.requires_grad)
        singles.append(single.train(layer.training))
        width = (facts.proj_size or facts.hidden_size) * (1 + facts.bidirectional)
    return singles
