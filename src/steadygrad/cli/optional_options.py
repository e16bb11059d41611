"""Optional options, shown as ``--window INT`` instead of ``{None}|INT``."""

from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

KINDS: dict[type, tuple[str, Callable[[str], Any]]] = {
    int: ("INT", int),
    float: ("FLOAT", float),
    str: ("TEXT", str),
    Path: ("PATH", Path),
}

registry = ConstructorRegistry()


@registry.primitive_rule
def optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Parse ``X | None`` as an X; None is the default."""
    choices = set(get_args(info.type))
    if get_origin(info.type) not in (Union, UnionType) or NoneType not in choices:
        return None
    (kind, *others) = choices - {NoneType}
    if others or kind not in KINDS:
        return None
    name, convert = KINDS[kind]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=name,
        instance_from_str=lambda words: convert(words[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        # the text after "default:" in the help
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )
