"""Replace torch's layers by ours, sharing their parameters."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from steadygrad.nn import GRU, LSTM, RNN, Recurrent
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.unsuitable import no_recurrence


def no_loop(model: nn.Module) -> str | None:
    """Return why backpropagation through time in ``model`` is not accessible, or None."""
    reason = no_recurrence(model)
    if reason is not None:
        return reason
    if isinstance(model, nn.RNNBase) and not isinstance(model, Recurrent):
        return "it is itself the layer to replace; put it inside a module, such as a Sequential"
    if any(isinstance(m, nn.RNNBase | Recurrent) for m in model.modules()):
        return None
    return (
        "its loop over time is its own, around single cells; "
        "put the cell into steadygrad.Recurrent, which brings the loop"
    )


def own_layers(model: nn.Module, applied: Applied) -> Iterator[tuple[str, Recurrent]]:
    """Replace torch's recurrent layers by ours, and yield every recurrent layer with its path.

    The parameters are not copied but shared: an optimiser that holds them stays valid, and what
    they learn is kept when the layer is restored. Hooks on the old layer are not copied.
    """
    for path, layer in list(model.named_modules()):
        if isinstance(layer, Recurrent):
            yield path, layer
        elif isinstance(layer, nn.RNNBase):
            twin = _sharing(layer)
            applied.replace(model, layer, twin)
            yield path, twin


def _sharing(layer: nn.RNNBase) -> Recurrent:
    kinds: dict[type[nn.Module], Any] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
    kind = next(ours for theirs, ours in kinds.items() if isinstance(layer, theirs))
    options: dict[str, Any] = {
        name: getattr(layer, name)
        for name in ("num_layers", "bias", "batch_first", "bidirectional")
    }
    if isinstance(layer, nn.RNN):
        options["nonlinearity"] = layer.nonlinearity
    if layer.proj_size:
        options["proj_size"] = layer.proj_size
    twin = kind(layer.input_size, layer.hidden_size, **options, device="meta")
    twin.dropout = layer.dropout  # set after construction, which would repeat torch's warning
    for name in list(twin._parameters):
        twin._parameters[name] = layer._parameters[name]
    return twin.train(layer.training)
