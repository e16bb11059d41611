"""A remedy written as text, ``clip-norm:max_norm=0.5``, read into the remedy."""

from steadygrad.remedies.base import Remedy
from steadygrad.spec import read_spec


def known() -> dict[str, type[Remedy]]:
    """Every remedy that is defined so far, yours too, by name."""
    return {remedy.name: remedy for remedy in Remedy.__subclasses__()}


def ranked(fault: str) -> tuple[str, ...]:
    """The remedies to try for a fault, by name, the most promising first.

    Those that state a rank for it, and then the reader's own that name it without one. Of the
    house's own there are too many to try them all; docs/choose.md says when to take which.
    """
    there = known()
    first = sorted((r.rank[fault], n) for n, r in there.items() if fault in r.rank)
    own = [
        name
        for name, remedy in there.items()
        if fault in getattr(remedy, "helps", ())
        and fault not in remedy.rank
        and not remedy.__module__.startswith("steadygrad.")
    ]
    return (*(name for _, name in first), *own)


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
