"""The lines of code that add a remedy to a user's program, with the user's names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from torch import nn

if TYPE_CHECKING:
    from steadygrad.remedies.base import Remedy

MOST_LINES = 6  # lines per place; a longer patch applies the remedy by name instead
IMPORTS: Mapping[str, str] = {"sg": "import steadygrad as sg", "torch": "import torch"}


@final
@dataclass(frozen=True)
class Names:
    """Names in the user's program.

    Attributes:
        model: An expression for the model, such as ``self.net``.
        optimizer: An expression for its optimiser.
        loss: An expression for the loss of a step.
        modules: Names of this library and torch there, by the names in patches; missing ones are
            imported by the patch.
    """

    model: str = "model"
    optimizer: str = "optimizer"
    loss: str = "loss"
    modules: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Patch:
    """Lines to paste, by place; any place may be empty.

    They use ``sg`` and ``torch`` for the modules, and the given `Names`.

    Attributes:
        model: After the model is made, before its optimiser.
        optimizer: After the optimiser is made.
        loss: After the forward pass, before the backward pass.
        step: After the backward pass, before the optimiser's step.
    """

    model: tuple[str, ...] = ()
    optimizer: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()
    step: tuple[str, ...] = ()

    def text(self, names: Names) -> str:
        """All lines, each place named in a comment."""
        places = (
            (f"# once {names.model} is made, before its optimiser:", self.model),
            (f"# once {names.optimizer} is made:", self.optimizer),
            (f"# after the forward pass, before {names.loss}.backward():", self.loss),
            (f"# after {names.loss}.backward(), before {names.optimizer}.step():", self.step),
        )
        body = [line for place, lines in places if lines for line in (place, *lines)]
        code = "\n".join(body)
        needed = []
        for name, line in IMPORTS.items():
            there = names.modules.get(name)
            if there is not None:
                code = re.sub(rf"(?<![\w.]){name}\.", f"{there}.", code)
            elif re.search(rf"(?<![\w.]){name}\.", code):
                needed.append(line)
        return "\n".join([*needed, code])


def expression(name: str, model: nn.Module, path: str) -> str:
    """The Python expression for a module or parameter at a path in a model.

    Args:
        name: Name of the model.
        model: The model.
        path: As in ``named_modules``; empty for the model itself.

    Example:
        >>> net = nn.Sequential(nn.ModuleDict({"a b": nn.LSTM(2, 3)}))
        >>> expression("net", net, "0.a b.weight_hh_l0")
        "net[0]['a b'].weight_hh_l0"
    """
    at: object = model
    for part in filter(None, path.split(".")):
        if isinstance(at, nn.Sequential | nn.ModuleList) and part.isdigit():
            name += f"[{part}]"
        elif isinstance(at, nn.ModuleDict):
            name += f"[{part!r}]"
        else:
            name += f".{part}"
        at = getattr(at, part, None)
    return name


def made(remedy: "Remedy") -> str:
    """The expression that makes a remedy; options at their default are omitted.

    A user's own remedy is parsed from its text.
    """
    if not type(remedy).__module__.startswith("steadygrad."):
        return f"sg.remedies.parse({remedy.spec!r})"
    options = [
        f"{option.name}={getattr(remedy, option.name)!r}"
        for option in remedy.fields()
        if getattr(remedy, option.name) != option.default
    ]
    return f"sg.remedies.{type(remedy).__name__}({', '.join(options)})"


def general(remedy: "Remedy", names: Names) -> Patch:
    """The general lines for any remedy: apply it, begin it, call it."""
    variable = remedy.name.replace("-", "_")
    model: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()
    optimizer: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    apply = f"{made(remedy)}.apply({names.model})"
    if remedy.has_penalty:
        model = (f"{variable} = {apply}",)
        loss = (f"{names.loss} = {names.loss} + {variable}.penalty({names.loss})",)
    elif remedy.changes_model:
        model = (apply,)
    if remedy.acts_on_gradients:
        begin = f"{made(remedy)}.begin({names.model}, {names.optimizer})"
        optimizer, step = (f"{variable} = {begin}",), (f"{variable}()",)
    return Patch(model, optimizer, loss, step)
