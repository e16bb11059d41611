"""A fault explained from what the code itself uses: thresholds, ranking, claims."""

from dataclasses import dataclass

from steadygrad.faults import known
from steadygrad.remedies import REMEDIES, ranked


@dataclass(frozen=True)
class Explanation:
    """What is known of one fault.

    Attributes:
        fault: Its name.
        what: What it is.
        measured: The evidence used, and when none suffices.
        thresholds: The numbers that decide, by name.
        remedies: What is tried, the most promising first: name and claim.
        others: Further remedies of the house that name this fault: name and claim.
        advice: What else helps, in words.
    """

    fault: str
    what: str
    measured: str
    thresholds: dict[str, float]
    remedies: dict[str, str]
    others: dict[str, str]
    advice: tuple[str, ...]


def explain(name: str) -> Explanation:
    """Explain a fault.

    Raises:
        ValueError: No such fault; the message lists what there is.
    """
    name = name.replace("_", "-")
    there = known()
    if name not in there:
        raise ValueError(f"no fault {name!r}; there are: {', '.join(there)}")
    fault = there[name]
    first = [n for n in ranked(name) if n in REMEDIES]
    rest = sorted(n for n, r in REMEDIES.items() if name in r.helps and n not in first)
    return Explanation(
        name,
        fault.meaning,
        fault.measured,
        {n: t.default for n, t in fault.thresholds.items()},
        {n: REMEDIES[n].claim for n in first},
        {n: REMEDIES[n].claim for n in rest},
        fault.advice,
    )
