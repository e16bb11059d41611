"""From a fault to the remedies that help this model, best first, with the lines to paste."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from steadygrad.diagnosis.trial import Batch, Effect, Trial
from steadygrad.faults import Finding, known
from steadygrad.remedies import Names, Remedy, parse, ranked


class Prescriber:
    """Prescribes for one model.

    To try remedies on copies of a model takes a second or so: a finding first has them in the
    order in which the house ranks them, and `tried` puts them in order of what they did.

    Args:
        model: To be treated.
        names: What it, and its optimiser, are called in the reader's program.
    """

    def __init__(self, model: nn.Module, names: Names | None = None) -> None:
        self._model, self.names = model, names or Names()

    def prescribe(self, finding: Finding, standing: Finding | None = None) -> Finding:
        """Fill in the remedies that suit the model, untried, and a patch.

        Args:
            finding: What was found.
            standing: The same finding at an earlier look, whose order and trials it keeps.
        """
        fault, tuned = known()[finding.fault], self._tuned(finding)
        if standing is None:
            rest = tuple(variants[0].spec for variants in self._candidates(finding))
        else:
            before = self._tuned(standing)
            rest = tuple(spec for spec in standing.remedies if spec not in before)
        specs = (*tuned, *rest)
        if standing is not None and standing.remedies == specs:
            patch = standing.patch
        else:
            patch = finding.patch or fault.lines(finding, self.names) or self._patch(specs)
        return replace(
            finding,
            remedies=specs,
            advice=finding.advice or fault.advice,
            effects=finding.effects if standing is None else standing.effects,
            patch=patch,
        )

    def tried(self, finding: Finding, trial: Trial) -> Finding:
        """Put the remedies of a finding in order of what each did to a copy of the model.

        Args:
            finding: As `prescribe` returned it.
            trial: At the step at which it was found.
        """
        rest: list[tuple[Remedy, Effect]] = []
        for variants in self._candidates(finding):
            each = [(v, trial.effect(v, finding.fault)) for v in variants]
            rest.append(min(each, key=lambda pair: _order(pair[1])))
        rest.sort(key=lambda pair: _order(pair[1]))  # stable: equals keep the house's order
        effects = {remedy.spec: effect.text for remedy, effect in rest if effect.text}
        specs = (*self._tuned(finding), *(remedy.spec for remedy, _ in rest))
        is_own = finding.patch != self._patch(finding.remedies)  # the fault's, not a remedy's
        patch = finding.patch if is_own else self._patch(specs)
        return replace(finding, remedies=specs, effects=effects, patch=patch)

    def has_to_try(self, finding: Finding) -> bool:
        """Whether a trial could tell the remedies of a finding apart."""
        return any(v.changes_model for variants in self._candidates(finding) for v in variants)

    def trial(self, batch: Batch) -> Trial | None:
        """A trial of the model as it is now, for later; None if the model cannot be copied."""
        return Trial.of_now(self._model, batch)

    def patch(self, remedy: Remedy) -> str:
        """The lines to paste for one remedy."""
        return remedy.patch(self._model, self.names).text(self.names)

    def _patch(self, specs: Sequence[str]) -> str:
        return self.patch(parse(specs[0])) if specs else ""

    def _tuned(self, finding: Finding) -> tuple[str, ...]:
        """Remedies whose options follow from the evidence."""
        remedies = [parse(text) for text in known()[finding.fault].tuned(finding)]
        return tuple(r.spec for r in remedies if r.applicable(self._model))

    def _candidates(self, finding: Finding) -> Iterator[list[Remedy]]:
        """The other remedies in the order of the house, each with its variants."""
        for name in ranked(finding.fault):
            variants = list(self._variants(name, finding.lag))
            if variants:
                yield variants

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
        how = " (or call apply())" if finding.remedies else ""
        lines += [f"  to paste{how}:", *(f"    {x}" for x in finding.patch.split("\n"))]
    return lines
