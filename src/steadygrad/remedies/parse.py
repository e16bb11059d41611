"""A remedy written as text, ``clip-norm:max_norm=0.5``, read into the remedy."""

from steadygrad.remedies.base import Remedy
from steadygrad.spec import read_spec


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
    return read_spec(text, known(), "remedy")
