"""Python expressions for the parameters of a recurrent layer, and for the bias of a gate."""

from torch import nn

from steadygrad.remedies.patch import expression
from steadygrad.remedies.recurrences import Recurrence


def parameter_at(layer: Recurrence, name: str, model: nn.Module, stem: str) -> str:
    """The expression for a parameter of a recurrence, such as ``model.rnn.weight_hh_l0``."""
    return expression(name, model, f"{layer.path}.{stem}{layer.suffix}".lstrip("."))


def set_bias(
    layer: Recurrence, name: str, model: nn.Module, stem: str, gate: str, value: str
) -> str:
    """The indented line that sets the bias of one gate."""
    gates = layer.gates if stem == "bias_ih" else layer.recurrent
    size = len(layer.parameter(stem)) // len(gates)
    first = gates.index(gate) * size
    at = parameter_at(layer, name, model, stem)
    return f"    {at}[{first}:{first + size}] = {value}  # {gate} gate"
