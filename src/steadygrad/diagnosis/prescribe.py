"""From a fault to the remedies that help this model, best first, with the lines to paste."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from steadygrad.diagnosis.trial import UNSEEN, Batch, Effect, Trial
from steadygrad.faults import Finding, known
from steadygrad.remedies import Names, Remedy, parse, ranked


class Prescriber:
    """Prescribes for one model.

    Args:
        model: To be treated.
        names: What it, and its optimiser, are called in the reader's program.

    Attributes:
        batch: The step that was looked at last, on which remedies are tried; None while there is
            none, and then they keep the order in which the house ranks them.
        seconds: Time that was spent on trying remedies; the reader resets it to zero.
    """

    def __init__(self, model: nn.Module, names: Names | None = None) -> None:
        self._model, self.names = model, names or Names()
        self.batch: Batch | None = None
        self.seconds = 0.0

    def prescribe(self, finding: Finding, standing: Finding | None = None) -> Finding:
        """Fill in the remedies that suit the model, what each did to a copy, and a patch.

        Args:
            finding: What was found.
            standing: The same finding at an earlier look, whose trials need not be repeated.
        """
        fault = known()[finding.fault]
        advice = finding.advice or fault.advice
        tuned = fault.tuned(finding)
        if standing is not None and standing.remedies[: len(tuned)] == tuned:
            return replace(
                finding,
                advice=advice,
                remedies=standing.remedies,
                effects=standing.effects,
                patch=standing.patch,
            )
        began = time.perf_counter()
        chosen = self._ranked(finding, tuned)
        self.seconds += time.perf_counter() - began
        effects = {remedy.spec: effect.text for remedy, effect in chosen if effect.text}
        patch = finding.patch or (self.patch(chosen[0][0]) if chosen else "")
        specs = tuple(remedy.spec for remedy, _ in chosen)
        return replace(finding, remedies=specs, advice=advice, effects=effects, patch=patch)

    def patch(self, remedy: Remedy) -> str:
        """The lines to paste for one remedy."""
        return remedy.patch(self._model, self.names).text(self.names)

    def _ranked(self, finding: Finding, tuned: tuple[str, ...]) -> list[tuple[Remedy, Effect]]:
        first = [parse(text) for text in tuned]
        first = [(r, Effect(UNSEEN)) for r in first if r.applicable(self._model)]
        trial = None if self.batch is None else Trial(self._model, self.batch)
        rest: list[tuple[Remedy, Effect]] = []
        for name in ranked(finding.fault):
            variants = list(self._variants(name, finding.lag))
            if not variants:
                continue
            if trial is None:
                rest.append((variants[0], Effect(UNSEEN)))
                continue
            tried = [(v, trial.effect(v, finding.fault)) for v in variants]
            rest.append(min(tried, key=lambda pair: _order(pair[1])))
        rest.sort(key=lambda pair: _order(pair[1]))  # stable: equals keep the house's order
        return [*first, *rest]

    def _variants(self, name: str, lag: int | None) -> Iterator[Remedy]:
        """A remedy that suits the model: fitted to the lag first, then as it comes."""
        plain = parse(name)
        fitted = () if lag is None or lag < 1 else type(plain).fitted(lag)
        for remedy in dict.fromkeys((*fitted, plain)):
            if remedy.applicable(self._model):
                yield remedy


def _order(effect: Effect) -> tuple[int, int]:
    """Group first, then whole decades: less than that is no reason to prefer one to another."""
    return effect.group, int(min(effect.decades, 1e6))


def chosen_remedy(remedy: str | Remedy | None, findings: Sequence[Finding], verdict: str) -> Remedy:
    """The remedy that is meant: the one named, or the first of the worst finding that has one.

    Raises:
        ValueError: None is named, and no finding has one; or the text cannot be read.
    """
    if isinstance(remedy, Remedy):
        return remedy
    if remedy is not None:
        # Named alone, it has the options with which it was tried.
        tried = [spec for f in findings for spec in f.remedies]
        return parse(next((spec for spec in tried if spec.partition(":")[0] == remedy), remedy))
    first = next((f.remedies[0] for f in findings if f.remedies), None)
    if first is None:
        raise ValueError(f"there is no remedy to apply: the verdict is {verdict}")
    return parse(first)


def told(finding: Finding) -> list[str]:
    """The remedies of a finding and its patch, as lines to print."""
    lines: list[str] = []
    if finding.remedies:
        lines.append(f"  may help: {', '.join(finding.remedies)}")
        effect = finding.effects.get(finding.remedies[0])
        lines += [f"  tried on a copy: {effect}"] if effect else []
    if finding.advice:
        lines.append(f"  also: {'; '.join(finding.advice)}")
    if finding.patch:
        lines += ["  to paste (or call apply()):", *(f"    {x}" for x in finding.patch.split("\n"))]
    return lines
