"""What `torch.fx` and `torch.jit.script` are told, which would read the source of a layer."""

from typing import Any, NoReturn

from torch import nn
from torch.fx import Proxy


def as_leaf(layer: nn.Module, input: Proxy, **named: Any) -> Any:
    """Write a call of a layer into the graph that `torch.fx` makes, instead of what it does.

    Its tracer takes for leaves what stands in ``torch.nn`` alone, and calls all else with proxies.

    Args:
        layer: The layer.
        input: Its input, a proxy.
        **named: Its other arguments; those that are None are left out.
    """
    tracer: Any = input.tracer
    given = {name: value for name, value in named.items() if value is not None}
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (input,), given)


def refuse_script(layer: nn.Module) -> NoReturn:
    """Say that `torch.jit.script` cannot have a layer.

    Raises:
        TypeError: Always.
    """
    # Not torch's layer in its place, as `__prepare_scriptable__` may return: torch.jit.script then
    # leaves that in the model that it was given.
    twin = "put layer.to_torch() in its place, or " if hasattr(layer, "to_torch") else ""
    raise TypeError(
        f"torch.jit.script: steadygrad {type(layer).__name__} is no source that it could read; "
        f"{twin}use torch.jit.trace, torch.export.export or steadygrad.deploy.export"
    )
