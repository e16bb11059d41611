"""A remedy written as text, ``clip-norm:max_norm=0.5``, read into the remedy."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from steadygrad.remedies.base import Remedy

UNIONS = (UnionType, Union)  # float | None is the one or the other, by version of Python
TRUTHS = {"true": True, "false": False}


def known() -> dict[str, type[Remedy]]:
    """Every remedy that is defined so far, yours too, by name."""
    return {remedy.name: remedy for remedy in Remedy.__subclasses__()}


def parse(text: str) -> Remedy:
    """Read ``name`` or ``name:option=value,option=value`` into a remedy.

    ``parse(remedy.spec) == remedy`` for every remedy. In a name ``_`` and ``-`` are the same.

    Args:
        text: As the command line and the record write it.

    Raises:
        ValueError: No such remedy or option, or a value of the wrong kind; the message lists
            what there is.

    Example:
        >>> parse("clip-norm:max_norm=0.5")
        ClipNorm(max_norm=0.5)
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    name = name.replace("_", "-")
    remedies = known()
    if name not in remedies:
        raise ValueError(
            f"no remedy {name!r} in {text!r}; there are: {', '.join(sorted(remedies))}"
        )
    remedy = remedies[name]
    values: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(f"expected option=value after {name}:, got {pair!r}; {_usage(remedy)}")
        if option in values:
            raise ValueError(f"{name}: option {option} is given twice in {text!r}")
        values[option] = _read(remedy, option, value)
    return remedy(**values)


def _read(remedy: type[Remedy], option: str, value: str) -> Any:
    """Turn the text of one option into its value."""
    if option not in {field.name for field in remedy.fields()}:
        raise ValueError(f"{remedy.name} has no option {option!r}; {_usage(remedy)}")
    kind = get_type_hints(remedy)[option]
    for choice in get_args(kind) if get_origin(kind) in UNIONS else (kind,):
        try:
            return _convert(choice, value)
        except ValueError:
            continue
    raise ValueError(f"{remedy.name}: option {option} must be {_kind(kind)}, got {value!r}")


def _convert(kind: Any, value: str) -> Any:
    if get_origin(kind) is Literal:
        choices = {str(choice): choice for choice in get_args(kind)}
    elif kind is bool:
        choices = TRUTHS
    elif kind is NoneType:
        choices = {"none": None}
    else:
        return kind(value)
    if value.lower() not in choices:
        raise ValueError(value)
    return choices[value.lower()]


def _usage(remedy: type[Remedy]) -> str:
    """List the options of a remedy with their kinds and defaults."""
    kinds = get_type_hints(remedy)
    listed = [f"{o.name} ({_kind(kinds[o.name])}, {o.default})" for o in remedy.fields()]
    return f"options of {remedy.name}: {', '.join(listed) or 'none'}"


def _kind(kind: Any) -> str:
    """Name a type as a user would."""
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) in UNIONS:
        return " or ".join(map(_kind, get_args(kind)))
    names = {float: "a number", int: "a whole number", bool: "true or false", NoneType: "none"}
    return names.get(kind, str(getattr(kind, "__name__", kind)))
