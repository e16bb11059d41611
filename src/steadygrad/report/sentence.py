"""State the verdict of a run in one plain sentence with its number."""

import math
from collections.abc import Mapping
from typing import Any

from steadygrad.faults import HEALTHY, NOT_JUDGED
from steadygrad.report import figures
from steadygrad.report.chapter import Chapter

LONGEST = 140  # letters of a headline


def headline(chapters: list[Chapter]) -> str:
    """One sentence for the top of the page; for several runs, whether the repair worked."""
    first, last = chapters[0], chapters[-1]
    if len(chapters) == 1:
        return verdict(last)
    if "healthy" in (last.verdict, _judged(last)) and last.verdict in ("healthy", ""):
        return f"Repaired: {_reach(last)}{_was(first)}." if _is_faulty(first) else verdict(last)
    if _is_faulty(last) and _is_faulty(first):
        return f"Not repaired yet. {verdict(last)}"
    return verdict(last)


def parted(text: str) -> tuple[str, str]:
    """Part a headline that is too long for one into its first sentence and the rest."""
    if len(text) <= LONGEST:
        return text, ""
    first, _, rest = text.partition(". ")
    return (f"{first}.", rest) if rest else (text, "")


def verdict(chapter: Chapter) -> str:
    """One run's verdict as a sentence."""
    kind = chapter.verdict or _judged(chapter)
    if kind == "vanishing":
        return _vanishing(chapter)
    if kind == "exploding":
        return _exploding(chapter)
    if kind == "nonfinite":
        return _nonfinite(chapter)
    if kind in ("saturated", "dead"):
        return f"{_stuck(chapter, kind)}; {_reach(chapter)}{_need(chapter)}."
    told = [f.get("text") for f in chapter.findings if f.get("fault") == kind and f.get("text")]
    if told:
        return str(told[-1])
    if kind == NOT_JUDGED:
        return _not_judged(chapter)
    if kind == HEALTHY and chapter.at_lag is None:
        return f"No fault was found; {_reach(chapter)}."
    if kind == "healthy" and (chapter.at_lag or (0, 0.0))[1] < chapter.threshold:
        # Less than the threshold is left at the lag, so the run must not be called healthy.
        glue = ", but" if chapter.lag else ";"
        return f"No fault was named{glue} {_reach(chapter)}{_need(chapter)}."
    if kind == "healthy":
        return f"Nothing is wrong: {_reach(chapter)}{_need(chapter)}."
    if chapter.main is None:
        return "The gradient through time was not recorded in this run."
    return f"No fault was named; {_reach(chapter)}{_need(chapter)}."


def _not_judged(chapter: Chapter) -> str:
    """The first reason why there is no verdict; the others are listed below it."""
    gaps = chapter.not_judged
    first = f" {gaps[0]['text']}" if gaps and gaps[0].get("text") else ""
    more = f" ({len(gaps) - 1} more below)" if len(gaps) > 1 else ""
    if first:
        return f"Not judged.{first}{more}"
    return f"Not judged; {_reach(chapter)}."


def scored(chapters: list[Chapter]) -> str | None:
    """The deciding score beside the best naive answer, as a sentence; None if there is none."""
    last = chapters[-1].ours
    if last is None:
        return None
    unit, lower = str(last.get("unit", "")), last.get("better") == "lower"
    rivals = [
        s
        for s in chapters[-1].scores
        if not s.get("ours") and s.get("unit") == unit and _is_number(s.get("value"))
    ]
    pick = min if lower else max
    best = pick(rivals, key=lambda s: s["value"], default=None)
    name = unit.removeprefix("%").strip() or "score"
    name = name[:1].upper() + name[1:]
    now = figures.score(last.get("value"), unit)
    first = chapters[0].ours if len(chapters) > 1 else None
    told = f"from {figures.score(first.get('value'), unit)} to {now}" if first else now
    beside = f"; the best simple answer ({best['name']}) gets" if best else ""
    return (
        f"{name}: {told}{beside} {figures.score(best['value'], unit)}."
        if best
        else f"{name}: {told}."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _vanishing(chapter: Chapter) -> str:
    horizon = chapter.horizon
    if horizon is None:
        return f"The gradient vanishes in the backward pass{_need(chapter)}."
    steps = f"{figures.plain(horizon + 1)} step" + ("s" if horizon else "")
    left = figures.threshold(chapter.threshold)
    return (
        f"The gradient vanishes in the backward pass: after {steps} less than {left} of it is left"
        f"{_need(chapter)}."
    )


def _exploding(chapter: Chapter) -> str:
    at = _growth(chapter) or chapter.at_lag
    if at is None or math.isnan(at[1]) or at[1] <= 0:
        return "The gradient explodes in the backward pass."
    grown = "without bound" if math.isinf(at[1]) else f"{_times(at[1])}-fold"
    far = f"over {figures.plain(at[0])} steps"
    return f"The gradient explodes in the backward pass: {far} it grows {grown}."


def _growth(chapter: Chapter) -> tuple[int, float] | None:
    """Lag and log10 of the growth, as a finding states them at its worst lag."""
    for found in chapter.findings:
        evidence = found.get("evidence")
        if found.get("fault") == "exploding" and isinstance(evidence, Mapping):
            lag, ratio = found.get("lag"), evidence.get("log10_ratio")
            if isinstance(lag, int) and isinstance(ratio, int | float):
                return lag, float(ratio)
    return None


def _nonfinite(chapter: Chapter) -> str:
    event = next((e for e in chapter.events if e.get("kind") == "nonfinite"), None)
    found = next((f for f in chapter.findings if f.get("fault") == "nonfinite"), None)
    step = event["step"] if event else found.get("step") if found else None
    when = f" at training step {figures.plain(step)}" if isinstance(step, int) else ""
    return f"Training broke down{when}: a number became infinite or not a number."


def _stuck(chapter: Chapter, kind: str) -> str:
    """The gate that is saturated or dead, and its share: the worst of the latest findings."""
    last = {(f.get("gate"), f.get("layer")): f for f in chapter.findings if f.get("fault") == kind}
    found = list(last.values())
    shares = [(_share(f), i) for i, f in enumerate(found)]
    if not shares:
        return "Gates are stuck" if kind == "saturated" else "Units are dead"
    share, i = max(shares)
    gate, layer = found[i].get("gate"), found[i].get("layer")
    what = f"of the units of the {gate} gate" if gate else "of the units"
    where = f" in layer {layer}" if layer else ""
    end = "are stuck" if kind == "saturated" else "are dead"
    some = figures.share(math.log10(share)) if share > 0 else "Some"
    return f"{some} {what}{where} {end} and pass no gradient on"


def _share(finding: Mapping[str, Any]) -> float:
    evidence = finding.get("evidence")
    share = evidence.get("dead_share") if isinstance(evidence, Mapping) else None
    return float(share) if isinstance(share, int | float) and 0 < share <= 1 else 0.0


def _reach(chapter: Chapter) -> str:
    """How far the gradient reaches, as a clause."""
    at = chapter.at_lag
    if at is None:
        return "how far the gradient reaches was not recorded"
    lag, left = at
    far = f"{figures.plain(lag)} step" + ("s back" if lag > 1 else " back")
    if math.isnan(left):
        return f"{far} the gradient is not a number"
    if left < chapter.threshold and chapter.horizon is not None:
        return f"the gradient reaches {figures.plain(chapter.horizon)} of {far}"
    if left > 0.3:
        times = figures.share(left).removesuffix(" as much")
        return f"{far} the gradient is {times} as large as where it starts"
    return f"{far}, {figures.share(left)} of the gradient is left"


def _need(chapter: Chapter) -> str:
    what = "the estimated lag is" if chapter.lag_is_estimated else "the lag given is"
    return f"; {what} {figures.plain(chapter.lag)}" if chapter.lag else ""


def _was(chapter: Chapter) -> str:
    at = chapter.at_lag
    if at is None or not math.isfinite(at[1]):
        return ""
    return f" (before: {figures.share(at[1])} of it)"


def _times(log10_ratio: float) -> str:
    return f"{10**log10_ratio:,.0f}" if log10_ratio < 5 else figures.power(log10_ratio)


def _is_faulty(chapter: Chapter) -> bool:
    return (chapter.verdict or _judged(chapter)) not in (HEALTHY, "", NOT_JUDGED)


def _judged(chapter: Chapter) -> str:
    """A verdict for a run that noted none; vanishing counts only at the lag that the task needs."""
    if any(e.get("kind") == "nonfinite" for e in chapter.events):
        return "nonfinite"
    if chapter.lag is None or chapter.horizon is None or chapter.measured < chapter.lag:
        return ""
    return "vanishing" if chapter.horizon < chapter.lag else "healthy"
