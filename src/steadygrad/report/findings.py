"""Findings in plain words, each with its evidence and threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

from steadygrad.faults import known
from steadygrad.report import figures
from steadygrad.report.chapter import Chapter
from steadygrad.report.gradient_by_step import layer_anchors
from steadygrad.report.markup import Html, el, esc, join
from steadygrad.report.sections import Section, section

_MOST = 40
_HOW = ("how", "exactness")


def findings(chapters: list[Chapter]) -> Section:
    """List the findings of the runs; state it if there are none."""
    anchors = layer_anchors(chapters)
    blocks = [_of(c, len(chapters) > 1, anchors) for c in chapters]
    return section("What was found", *blocks)


def _of(chapter: Chapter, is_named: bool, anchors: Mapping[str, str]) -> Html:
    title = el("h3", chapter.label.capitalize()) if is_named else None
    gaps = [el("p", el("b", "Not judged. "), g.get("text")) for g in chapter.not_judged]
    if not chapter.findings and gaps:
        return join([title, *gaps])
    if not chapter.findings:
        none = "No fault was found." if chapter.verdict == "healthy" else "No finding was recorded."
        return join([title, el("p", none, class_="quiet")])
    findings = _gathered(chapter.findings)
    first = findings[:_MOST]
    faults = [f.get("fault") for f in first]
    # The meaning of a fault is given once, not at each layer that has it.
    level = "h4" if is_named else "h3"  # below the name of the run, or the section
    cards = [
        _card(f, faults.index(f.get("fault")) == i, anchors, level) for i, f in enumerate(first)
    ]
    more = len(findings) - _MOST
    rest = el("p", f"{more} more are in the record.", class_="quiet") if more > 0 else None
    return join([title, *cards, rest, *gaps])


def _gathered(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The latest finding for each fault and place, with its first step and its count."""
    places: dict[str, list[Mapping[str, Any]]] = {}
    for found in findings:
        place = repr([found.get(k) for k in ("fault", "layer", "gate")])
        places.setdefault(place, []).append(found)
    return [
        {**each[-1], "step": each[0].get("step"), "times": len(each)} for each in places.values()
    ]


def _card(
    finding: Mapping[str, Any], is_first: bool, anchors: Mapping[str, str], level: str
) -> Html:
    fault = str(finding.get("fault") or "finding")
    where = [
        _layer(finding["layer"], anchors) if finding.get("layer") else None,
        f"{finding['gate']} gate" if finding.get("gate") else None,
        f"from {figures.plain(finding['lag'])} steps back"
        if finding.get("lag") is not None
        else None,
        f"since training step {figures.plain(finding['step'])}"
        if finding.get("step") is not None
        else None,
        f"found {finding['times']} times, the latest shown here" if finding["times"] > 1 else None,
    ]
    kind = known().get(fault)  # a record of another version may name unknown faults
    meaning = "" if kind is None else kind.meaning
    text = finding.get("text") or meaning
    explained = meaning if finding.get("text") and is_first else None
    evidence = finding.get("evidence")
    remedies, advice = finding.get("remedies"), finding.get("advice")
    return el(
        "article",
        el(
            level,
            el("span", fault, class_="badge"),
            " ",
            el("span", join(where, ", "), class_="quiet"),
        ),
        el("p", text),
        el("p", explained, class_="quiet") if explained and explained != text else None,
        _facts(evidence) if isinstance(evidence, Mapping) and evidence else None,
        _advice(remedies) if isinstance(remedies, list) and remedies else None,
        _effects(finding.get("effects"), remedies),
        _patch(finding.get("patch")),
        el("p", f"Also: {'; '.join(map(str, advice))}.", class_="advice") if advice else None,
        class_="finding",
        style=None if kind is None else f"--fault:{kind.colour}",
    )


def _layer(name: object, anchors: Mapping[str, str]) -> Html:
    """The name of a layer, linked to its figure if there is one."""
    words = f"layer {name}"
    anchor = anchors.get(str(name))
    return el("a", words, href=f"#{anchor}") if anchor else esc(words)


def _facts(evidence: Mapping[str, Any]) -> Html:
    pairs = [
        el("div", el("dt", str(k).replace("_", " ")), el("dd", _value(str(k), v)))
        for k, v in evidence.items()
        if k not in _HOW
    ]
    how = ": ".join(str(evidence[k]) for k in _HOW if evidence.get(k))
    small = el("p", el("small", f"Measured by {how}."), class_="how") if how else None
    return join([el("dl", *pairs, class_="facts"), small])


def _value(name: str, value: Any) -> str:
    text = brief(value)
    if name.startswith("log10") and isinstance(value, int | float):
        return f"{text} ({figures.share(float(value))})"
    return text


def brief(value: Any, most: int = 12) -> str:
    """A value of a note in one line; long lists are cut and their length is given."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {brief(v)}" for k, v in value.items())
    if isinstance(value, list):
        parts = [brief(v) for v in value[:most]]
        glue = "; " if any("," in part for part in parts) else ", "
        return glue.join(parts) + (f", \u2026 ({len(value)} in all)" if len(value) > most else "")
    if value is None:
        return "\u2013"
    return figures.plain(value)


def _effects(effects: object, remedies: object) -> Html | None:
    """The measured effect of each remedy on a copy of the model."""
    if not isinstance(effects, Mapping) or not isinstance(remedies, list):
        return None
    rows = [
        el("li", el("code", r), f": {effects[r]}")
        for r in remedies
        if isinstance(r, str) and r in effects
    ]
    return join([el("p", "Tried on a copy of the model:"), el("ul", *rows)]) if rows else None


def _patch(patch: object) -> Html | None:
    """The lines to paste for the first remedy."""
    if not isinstance(patch, str) or not patch:
        return None
    code = el("pre", el("code", patch), tabindex="0", aria_label="The lines to paste")
    return el("div", el("p", "To paste:", class_="advice"), code, class_="code")


def _advice(remedies: list[Any]) -> Html:
    names = [el("code", r if isinstance(r, str) else brief(r)) for r in remedies]
    return el("p", "Worth trying: ", join(names, ", "), class_="advice")
