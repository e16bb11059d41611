"""Properties every fault must have; a new fault is tested by existing."""

import ast
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from docs import faults as page_of_faults
from steadygrad import faults
from steadygrad.diagnosis.explain import explain
from steadygrad.faults import FAULTS, Fault, Finding, Thresholds, verdict, worst_first
from steadygrad.remedies import REMEDIES, parse, ranked
from steadygrad.report import findings
from steadygrad.report.chapter import Chapter

PAPERS = ("#fbfaf7", "#16181b")  # of the page, by day and by night


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_no_fault_is_left_out() -> None:
    written = {
        path.stem
        for path in Path(faults.__file__).parent.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Fault" for base in node.bases)
    }
    imported = {type(fault).__module__.rpartition(".")[2] for fault in FAULTS.values()}
    assert written == imported, f"not imported in faults/__init__.py: {written - imported}"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_every_fault_states_what_it_is(fault: Fault) -> None:
    for text in (fault.meaning, fault.measured):
        assert text[0].isupper() or text[0] == "|"
        assert text.endswith(".")
    assert fault.symptom and fault.look_at and not fault.symptom.endswith(".")
    assert fault.advice or ranked(fault.name)
    assert set(fault.caused_by) <= set(FAULTS)
    assert type(fault).__doc__ and type(fault).__doc__ != Fault.__doc__
    rules = ("in_layer", "in_depth", "in_training", "in_call", "in_loss", "in_wiring")
    assert any(getattr(type(fault), rule) is not getattr(Fault, rule) for rule in rules)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_colour_is_readable_by_day_and_by_night(fault: Fault) -> None:
    for paper in PAPERS:
        dark, light = sorted((luminance(fault.colour), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.2, 1.4.11: graphical objects


def test_no_two_faults_share_a_name_a_colour_or_a_severity() -> None:
    for attribute in ("name", "colour", "severity"):
        values = [getattr(fault, attribute) for fault in FAULTS.values()]
        assert len(set(values)) == len(values), attribute


def test_the_verdict_is_the_worst() -> None:
    order = sorted(FAULTS, key=lambda name: FAULTS[name].severity)
    assert list(FAULTS) == order
    found = [Finding(name, "rnn", "text") for name in reversed(order)]
    assert [f.fault for f in worst_first(found)] == order
    assert verdict(found) == order[0] and verdict(found[:1]) == order[-1]
    assert verdict([]) == "healthy"


def test_thresholds_are_those_of_the_faults() -> None:
    limits = Thresholds()
    for fault in FAULTS.values():
        for name, threshold in fault.thresholds.items():
            assert getattr(limits, name) == threshold.default
            assert threshold.meaning and threshold.allows(threshold.default)
            assert name in inspect.signature(Thresholds).parameters
    assert Thresholds(vanishing=1e-3).vanishing == 1e-3 and Thresholds(vanishing=1e-3) != limits
    assert Thresholds() == limits and hash(Thresholds()) == hash(limits)
    with pytest.raises(TypeError, match=r"no threshold 'vanish'; there are: .*vanishing"):
        Thresholds(vanish=1.0)
    with pytest.raises(AttributeError, match=r"no threshold 'vanish'; there are: .*vanishing"):
        _ = limits.vanish
    with pytest.raises(AttributeError, match=r"Thresholds\(spike=2\)"):
        limits.spike = 2
    for bad in ({"vanishing": 0.0}, {"exploding": float("nan")}, {"dead_share": 1.01}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Thresholds(**bad)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_what_is_tuned_can_be_read_and_is_meant_for_the_fault(fault: Fault) -> None:
    evidence = {
        "update_ratio": 0.4,
        "before_over_after": 30.0,
        "time_steps": 40,
        "truncate": 10,
        "tensor": "rnn",
        "state_change": 0.4,
    }
    for text in fault.tuned(Finding(fault.name, "rnn", "text", evidence=evidence)):
        assert fault.name in REMEDIES[parse(text).name].helps


def card(fault: str) -> str:
    found = {"fault": fault, "layer": "rnn", "text": None, "evidence": {}}
    told = SimpleNamespace(label="run", verdict=fault, findings=[found], main=None, not_judged=[])
    return str(findings.findings([cast(Chapter, told)]))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_report_and_explanation_are_drawn_from_the_fault(fault: Fault) -> None:
    page = card(fault.name)
    assert f"--fault:{fault.colour}" in page and fault.meaning.partition("|")[0] in page
    told: Any = explain(fault.name)
    assert told.what == fault.meaning and told.measured == fault.measured
    assert set(told.thresholds) == set(fault.thresholds)


def test_a_fault_that_is_not_known_is_drawn_without_a_colour() -> None:
    page = card("from-the-future")
    assert "from-the-future" in page and "--fault" not in page


def test_the_page_of_faults_is_what_the_code_says() -> None:
    written = page_of_faults.PAGE.read_text(encoding="utf-8")
    assert written == page_of_faults.page(), "run: make docs"
