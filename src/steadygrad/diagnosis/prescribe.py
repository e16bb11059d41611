"""From a fault to the remedies that may help, the most promising first."""

from dataclasses import replace

from torch import nn

from steadygrad.faults import Finding, known
from steadygrad.remedies import parse, ranked


def prescribe(finding: Finding, model: nn.Module) -> Finding:
    """Fill in the remedies that suit ``model``, and what else helps."""
    fault = known()[finding.fault]
    names = dict.fromkeys((*fault.tuned(finding), *ranked(fault.name)))
    suiting = [name for name in names if parse(name).applicable(model)]
    advice = finding.advice or fault.advice
    return replace(finding, remedies=tuple(suiting), advice=advice)
