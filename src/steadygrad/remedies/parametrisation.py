"""Parametrise recurrent matrices, and undo it bit for bit."""

from collections.abc import Callable

from torch import nn

from steadygrad.cells import Cell
from steadygrad.nn import Recurrent, free_
from steadygrad.nn.parametrised import recurrent_weights
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.recurrences import blocks_of
from steadygrad.remedies.unsuitable import no_recurrence


def no_square_block(model: nn.Module) -> str | None:
    """Return why the recurrent blocks of ``model`` cannot be parametrised, or None."""
    reason = no_recurrence(model)
    if reason is not None:
        return reason
    for path, module in model.named_modules():
        if blocks_of(module) is None:
            continue
        where = path or type(module).__name__
        if getattr(module, "proj_size", 0):
            return f"the recurrent blocks of {where} are not square (proj_size)"
        if isinstance(module, Recurrent):
            if type(module.cell).recurrent_matrix is not Cell.recurrent_matrix:
                return f"the recurrent matrix of {where} has a form of its own already"
            if not all(module.get_parameter(n).numel() for n in recurrent_weights(module)):
                return f"{where} has no recurrent matrix"
    return None


def hold(model: nn.Module, applied: Applied, put: Callable[[nn.Module], object], note: str) -> None:
    """Call ``put`` on every recurrent module of ``model``, and record how to undo it."""
    for path, module in list(model.named_modules()):
        if blocks_of(module) is None:
            continue
        for name in recurrent_weights(module):
            applied.keep(module.get_parameter(name))
        applied.on_undo(_freer(module, dict(module._parameters)))
        put(module)
        applied.note(f"{path or 'model'}: recurrent blocks of the layer {note}")


def _freer(module: nn.Module, before: dict[str, nn.Parameter | None]) -> Callable[[], None]:
    def undo() -> None:
        if recurrent_weights(module) and "parametrizations" in module._modules:
            free_(module)
        # Restore the order of registration, which is that of the state dict.
        module._parameters.clear()
        module._parameters.update(before)

    return undo
