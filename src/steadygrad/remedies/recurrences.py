"""Find the recurrences in a model: one per layer and direction, with its weights and gates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from steadygrad.cells import Elman
from steadygrad.nn import Recurrent, view

# Row blocks of torch's weights, in order, by `torch.nn.RNNBase.mode`.
TORCH_GATES = {
    "RNN_TANH": ("candidate",),
    "RNN_RELU": ("candidate",),
    "GRU": ("reset", "update", "candidate"),
    "LSTM": ("input", "forget", "candidate", "output"),
}
TORCH_CELL_GATES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.RNNCell: TORCH_GATES["RNN_TANH"],
    nn.GRUCell: TORCH_GATES["GRU"],
    nn.LSTMCell: TORCH_GATES["LSTM"],
}


@final
@dataclass(frozen=True)
class Recurrence:
    """One direction of one layer, with the weights used at every time step.

    Args:
        path: Path of its module in the model, as in ``named_modules``; may be empty.
        module: The module that owns the weights.
        suffix: Suffix after ``weight_hh`` in its parameter names: ``_l0``, ``_l1_reverse``, or
            empty for torch's cells.
        gates: Row blocks of ``weight_ih`` and ``bias_ih``, in order.
        recurrent: Row blocks of ``weight_hh`` and ``bias_hh``; the gates again, in most cells.
    """

    path: str
    module: nn.Module
    suffix: str
    gates: tuple[str, ...]
    recurrent: tuple[str, ...]

    @property
    def label(self) -> str:
        """The module's path and the layer in it, for messages."""
        return ".".join(part for part in (self.path, self.suffix.lstrip("_")) if part) or "model"

    @property
    def keeping_gate(self) -> str | None:
        """The gate that keeps the old state, or None."""
        return self._keeping[0] if self._keeping else None

    @property
    def keeping_sign(self) -> int:
        """The sign of the bias that makes it keep more: -1 for a gate that replaces."""
        return self._keeping[1] if self._keeping else 1

    @property
    def _keeping(self) -> tuple[str, int] | None:
        if isinstance(self.module, Recurrent):
            found = self.module.cell.keeping
            return found if found and found[0] in self.gates else None
        return next(((gate, 1) for gate in ("forget", "update") if gate in self.gates), None)

    def can_keep(self) -> bool:
        """Whether the layer has a keeping gate with a bias."""
        return self.keeping_gate is not None and self.find("bias_ih") is not None

    def find(self, stem: str) -> nn.Parameter | None:
        """Return the parameter called ``stem`` in this layer, such as ``bias_ih``, or None."""
        # Not getattr, which returns a temporary tensor for a parametrised weight: values written
        # into that would be lost.
        return self.module._parameters.get(stem + self.suffix)

    def value(self, stem: str) -> Tensor:
        """Return the weight called ``stem`` as the layer uses it, after any parametrisation."""
        index, _, reverse = self.suffix.removeprefix("_l").partition("_")
        found = getattr(view(self.module).weights(int(index or 0), bool(reverse)), stem)
        assert isinstance(found, Tensor)
        return found

    def parameter(self, stem: str) -> nn.Parameter:
        """Return the parameter called ``stem`` in this layer.

        Raises:
            KeyError: There is none.
        """
        found = self.find(stem)
        if found is None:
            raise KeyError(f"{self.label} has no parameter {stem}{self.suffix}")
        return found

    def biases(self) -> tuple[nn.Parameter, ...]:
        """Return those of ``bias_ih`` and ``bias_hh`` that the layer has."""
        found = (self.find("bias_ih"), self.find("bias_hh"))
        return tuple(bias for bias in found if bias is not None)


def blocks_of(module: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Names of the row blocks of a module's input and recurrent weights; None if not recurrent."""
    if isinstance(module, Recurrent):
        return module.cell.gates, module.cell.recurrent
    if isinstance(module, nn.RNNBase):
        gates = TORCH_GATES[module.mode]
        return gates, gates
    for kind, gates in TORCH_CELL_GATES.items():
        if isinstance(module, kind):
            return gates, gates
    return None


def is_plain_layer(module: nn.Module) -> bool:
    """Whether a module is a layer of plain (Elman) recurrences, torch's or ours."""
    if isinstance(module, Recurrent):
        return isinstance(module.cell, Elman)
    return isinstance(module, nn.RNN)


def recurrences(model: nn.Module) -> Iterator[Recurrence]:
    """Yield all recurrences of ``model``, torch's and ours, each once, in model order."""
    for path, module in model.named_modules():
        blocks = blocks_of(module)
        if blocks is None:
            continue
        # Parametrised weights are not parameters of the module itself.
        for name in [*module._parameters, *getattr(module, "parametrizations", ())]:
            if name.startswith("weight_hh"):
                yield Recurrence(path, module, name.removeprefix("weight_hh"), *blocks)
