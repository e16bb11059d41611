"""Reasons why a model cannot be treated, shared by several remedies."""

from torch import nn

from steadygrad.flow.capture import recurrent_layers
from steadygrad.nn import cell_of
from steadygrad.remedies.recurrences import blocks_of, recurrences

RECURRENT = "torch.nn.RNN, LSTM, GRU and their cells, and steadygrad.nn's"


def no_trainable_parameter(model: nn.Module) -> str | None:
    """Return why no gradient of ``model`` can be treated, or None."""
    if any(parameter.requires_grad for parameter in model.parameters()):
        return None
    return "none of its parameters requires a gradient, so there is nothing to clip"


def no_recurrence(model: nn.Module) -> str | None:
    """Return why no recurrent weight of ``model`` can be set, or None."""
    return _parametrised(model) or no_recurrence_at_all(model)


def no_recurrence_at_all(model: nn.Module) -> str | None:
    """Return why ``model`` has no recurrent weight, even a parametrised one, or None."""
    if any(blocks_of(module) is not None for module in model.modules()):
        return None
    return f"it holds no recurrent layer (known are {RECURRENT})"


def no_recurrent_matrix(model: nn.Module) -> str | None:
    """Return why no recurrent matrix of ``model`` can be penalised, or None."""
    if any(True for _ in recurrences(model)):
        return None
    for path, layer in recurrent_layers(model):
        return (
            f"the cell {cell_of(layer).name} of {path} has no recurrent matrix: its units do not "
            "see each other's state"
        )
    return no_recurrence_at_all(model)


def no_keeping_gate(model: nn.Module) -> str | None:
    """Return why no keeping gate of ``model`` can be given a bias, or None."""
    reason = no_recurrence(model)
    if reason is not None or any(layer.can_keep() for layer in recurrences(model)):
        return reason
    if any(layer.keeping_gate is not None for layer in recurrences(model)):
        return "its gates have no bias; build the layer with bias=True"
    return "its recurrence has no gate that keeps; see the remedy 'gated'"


def no_layer_to_see(model: nn.Module) -> str | None:
    """Return why no call of a recurrent layer of ``model`` can be recorded, or None."""
    if any(True for _ in recurrent_layers(model)):
        return None
    return (
        "it holds no recurrent layer whose calls can be recorded (a loop over a cell is not one; "
        "put the cell into steadygrad.Recurrent)"
    )


def not_walkable(model: nn.Module) -> str | None:
    """Return why the backward pass through ``model`` cannot be recomputed, or None."""
    for path, layer in recurrent_layers(model):
        if getattr(layer, "dropout", 0) and getattr(layer, "num_layers", 1) != 1:
            return (
                f"{path} has dropout between its layers, which cannot be repeated; set its "
                "dropout to 0, or stack single layers with torch.nn.Dropout between them"
            )
        if getattr(layer, "truncate", None):
            return f"{path} cuts its gradient (truncate={layer.truncate}); set truncate=None"
    return no_layer_to_see(model)


def _parametrised(model: nn.Module) -> str | None:
    # A parametrised weight is recomputed at every use, so a value written into it is lost.
    for path, module in model.named_modules():
        if blocks_of(module) is not None and "parametrizations" in module._modules:
            return (
                f"weights of {path or type(module).__name__} are parametrised, so a value set in "
                "them would not stay; call "
                "torch.nn.utils.parametrize.remove_parametrizations first"
            )
    return None
