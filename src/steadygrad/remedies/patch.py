"""The lines that put a remedy into the reader's own program, in the reader's own names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from torch import nn

if TYPE_CHECKING:
    from steadygrad.remedies.base import Remedy

MOST_LINES = 6  # at one place; a remedy whose lines would be more is applied by its name
IMPORTS: Mapping[str, str] = {"sg": "import steadygrad as sg", "torch": "import torch"}


@final
@dataclass(frozen=True)
class Names:
    """What things are called in the reader's program.

    Attributes:
        model: An expression for the model, such as ``self.net``.
        optimizer: For its optimiser.
        loss: For the loss of a step.
        modules: How this library and torch are called there, by the names that patches use; what
            is missing is imported by the patch.
    """

    model: str = "model"
    optimizer: str = "optimizer"
    loss: str = "loss"
    modules: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Patch:
    """Lines to paste, by the place where they belong; each place may have none.

    They use ``sg`` and ``torch`` for the modules, and of `Names` whatever was given.

    Attributes:
        model: Once the model is made, before its optimiser is.
        optimizer: Once the optimiser is made.
        loss: After the forward pass, before the backward pass.
        step: After the backward pass, before the optimiser's step.
    """

    model: tuple[str, ...] = ()
    optimizer: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()
    step: tuple[str, ...] = ()

    def text(self, names: Names) -> str:
        """All of it, each place named in a comment."""
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
    """How a module, or a parameter, at a path in a model is written in Python.

    Args:
        name: Of the model.
        model: In which the path leads.
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
    """The expression that makes a remedy; options at their default are left out.

    A remedy of the reader's own is read from its text, by which it is known.
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
    """The lines that work for every remedy: apply it, begin it, call it."""
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
