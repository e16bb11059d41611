"""Read a remedy from text, ``clip-norm:max_norm=0.5``."""

from steadygrad.remedies.base import Remedy
from steadygrad.spec import read_spec


def known() -> dict[str, type[Remedy]]:
    """Every remedy defined so far, including users' own, by name."""
    return {remedy.name: remedy for remedy in Remedy.__subclasses__()}


def ranked(fault: str) -> tuple[str, ...]:
    """The remedies to try for a fault, by name, the most promising first.

    Those with a rank for it, then users' own that help it without a rank. There are too many
    built-in ones to try all; docs/choose.md says when to choose which.
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
        text: In the notation of the command line and the record.

    Raises:
        ValueError: No such remedy or option, or a value of the wrong type; the message lists the
            valid ones.

    Example:
        >>> parse("clip-norm:max_norm=0.5")
        ClipNorm(max_norm=0.5)
    """
    return read_spec(text, known(), "remedy")
