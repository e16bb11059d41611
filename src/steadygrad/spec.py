"""A frozen dataclass as text, ``clip-norm:max_norm=0.5``: cells, remedies and tasks alike."""

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from steadygrad.errors import did_you_mean

UNIONS = (UnionType, Union)  # float | None has either type, depending on the version of Python
TRUTHS = {"true": True, "false": False}

K = TypeVar("K")


def read_spec(text: str, kinds: Mapping[str, type[K]], what: str) -> K:
    """Read ``name`` or ``name:option=value,option=value`` into an instance of the class named.

    Args:
        text: In the notation of the command line. In a name ``_`` and ``-`` are the same.
        kinds: Classes by name; each a dataclass whose fields are its options.
        what: The kind of object, for the message, such as ``"remedy"``.

    Raises:
        ValueError: No such name or option, or a value of the wrong type; the message lists the
            valid ones.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    name = name.replace("_", "-")
    if name not in kinds:
        raise ValueError(
            f"no {what} {name!r} in {text!r}{did_you_mean(name, kinds)}; there are: "
            f"{', '.join(sorted(kinds))}"
        )
    return read_options(name, rest, kinds[name])


def read_options(name: str, text: str, kind: type[K]) -> K:
    """Read ``option=value,option=value`` into an instance of ``kind``.

    Raises:
        ValueError: No such option, or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        option, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            usage = _usage(name, kind)
            raise ValueError(f"expected option=value after {name}:, got {pair!r}; {usage}")
        if option in values:
            raise ValueError(f"{name}: option {option} is given twice in {text!r}")
        values[option] = _read(name, kind, option, value)
    return kind(**values)


def write_spec(name: str, instance: Any) -> str:
    """Write an instance as `read_spec` reads it; options at their default are omitted."""
    given = [
        f"{option.name}={_plain(getattr(instance, option.name))}"
        for option in fields(instance)
        if getattr(instance, option.name) != option.default
    ]
    return name + (":" + ",".join(given) if given else "")


def _plain(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _read(name: str, kind: type[Any], option: str, value: str) -> Any:
    """Turn the text of one option into its value."""
    options = {field.name for field in fields(kind)}
    if option not in options:
        near = did_you_mean(option, options)
        raise ValueError(f"{name} has no option {option!r}{near}; {_usage(name, kind)}")
    hint = get_type_hints(kind)[option]
    for choice in get_args(hint) if get_origin(hint) in UNIONS else (hint,):
        try:
            return _convert(choice, value)
        except ValueError:
            continue
    raise ValueError(f"{name}: option {option} must be {_kind(hint)}, got {value!r}")


def _convert(hint: Any, value: str) -> Any:
    if get_origin(hint) is Literal:
        choices = {str(choice).lower(): choice for choice in get_args(hint)}
    elif hint is bool:
        choices = TRUTHS
    elif hint is NoneType:
        choices = {"none": None}
    else:
        return hint(value)
    if value.lower() not in choices:
        raise ValueError(value)
    return choices[value.lower()]


def _usage(name: str, kind: type[Any]) -> str:
    """List the options of a class with their types and defaults."""
    hints = get_type_hints(kind)
    listed = [f"{o.name} ({_kind(hints[o.name])}, {o.default})" for o in fields(kind)]
    return f"options of {name}: {', '.join(listed) or 'none'}"


def _kind(hint: Any) -> str:
    """Name a type for a message."""
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) in UNIONS:
        return " or ".join(map(_kind, get_args(hint)))
    names = {float: "a number", int: "a whole number", bool: "true or false", NoneType: "none"}
    return names.get(hint, str(getattr(hint, "__name__", hint)))
