"""Tables of several runs side by side, and of the short trials that chose a remedy."""

import math
from collections.abc import Mapping
from typing import Any

from steadygrad.report import figures
from steadygrad.report.chapter import Chapter
from steadygrad.report.markup import Html, el, join, table
from steadygrad.report.sections import Section, section


def runs(chapters: list[Chapter]) -> Section | None:
    """The changes from run to run and their effects; None for a single run."""
    if len(chapters) < 2:
        return None
    lag = next((c.at_lag[0] for c in reversed(chapters) if c.at_lag), None)
    unit = next((str(c.ours.get("unit", "")) for c in chapters if c.ours), "")
    far = f"Gradient left {lag} steps back" if lag else "Gradient left"
    head = ["Run", "What was changed", f"Score ({unit})" if unit else "Score", far, "Reaches back"]
    return section(
        "What was changed, and what it did",
        table(head, map(_run, chapters), class_="stack"),
    )


def _run(chapter: Chapter) -> list[Any]:
    at = chapter.at_lag
    score = chapter.ours
    return [
        chapter.label,
        changes(chapter.remedies) or "nothing",
        figures.score(score.get("value"), str(score.get("unit", ""))) if score else "\u2013",
        figures.share(at[1]) if at else "\u2013",
        reach(chapter),
    ]


def reach(chapter: Chapter) -> str:
    """The horizon in steps; a lower bound if it spans everything measured."""
    if chapter.horizon is None:
        return "\u2013"
    more = "\u2265 " if chapter.measured and chapter.horizon >= chapter.measured else ""
    return f"{more}{figures.plain(chapter.horizon)} steps"


def changes(remedies: Any) -> Html | None:
    """The remedies of a run: names with options, and their changes."""
    parts = [
        join([el("b", named(r)), f": {r['changed']}" if r.get("changed") else None])
        for r in remedies
    ]
    return join(parts, "; ") if parts else None


def named(remedy: Mapping[str, Any]) -> str:
    """A remedy with its options: ``clip-norm (max_norm=1)``."""
    options = remedy.get("options")
    if isinstance(options, Mapping):
        options = ", ".join(f"{k}={figures.plain(v)}" for k, v in options.items())
    name = str(remedy.get("name") or remedy.get("remedy") or "unnamed")
    return f"{name} ({options})" if options else name


def trials(chapters: list[Chapter]) -> Section | None:
    """The short trials, best first as recorded; None if there were none."""
    tried = [t for c in chapters for t in c.trials]
    if not tried:
        return None
    has_seeds = any("seed" in t for t in tried)
    head = ["Remedy", *(["Seed"] if has_seeds else []), "Score", "Gradient left at the lag"]
    head += ["Took", "Kept"]
    rows = [
        [
            join([named(t), el("small", el("br"), t["changed"]) if t.get("changed") else None]),
            *([figures.plain(t.get("seed"))] if has_seeds else []),
            figures.scored(t.get("score"), str(t.get("score_unit") or "")),
            f"{_left(t.get('log10_ratio_before'))} \u2192 {_left(t.get('log10_ratio_after'))}",
            f"{t['seconds']:.1f} s" if isinstance(t.get("seconds"), int | float) else "\u2013",
            join([el("b", "yes") if t.get("kept") else "no", _because(t)]),
        ]
        for t in tried
    ]
    about = "Each remedy was tried briefly from the same start; what did not help was rolled back."
    if any(t.get("stage") == "fresh" for t in tried):
        about = (
            "Each remedy was tried briefly from the same start; the best then met the untreated "
            "network again under fresh seeds. It is kept only if it is better beyond noise."
        )
    return section(
        "Remedies that were tried",
        el("p", about),
        table(head, rows, class_="stack"),
    )


def _left(value: Any) -> str:
    return figures.share(float(value)) if isinstance(value, int | float) else "\u2013"


def _because(trial: Mapping[str, Any]) -> str | None:
    verdict = trial.get("verdict")
    return (
        f", {verdict}"
        if verdict and not (isinstance(verdict, float) and math.isnan(verdict))
        else None
    )
