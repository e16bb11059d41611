"""The scoring of `benchmarks.faults_wild`, on runs made up for it."""

from dataclasses import replace

from benchmarks.faults_wild import cases  # noqa: F401  # registers them
from benchmarks.faults_wild.case import CASES, SEEN, UNSEEN
from benchmarks.faults_wild.runs import Run
from benchmarks.faults_wild.score import is_right, score

from steadygrad.faults import FAULTS

FAULT = Run(
    "a", "fault", "held-back", ("lr-high",), True, "lr-high", ("lr-high",), (), "", (1, 1), 1, 0
)
SOUND = replace(FAULT, kind="healthy", right=(), verdict="healthy", findings=())
RUNS = [
    FAULT,
    replace(FAULT, verdict="dead", findings=("dead",)),
    replace(FAULT, verdict="healthy", findings=()),
    replace(FAULT, verdict="not judged", findings=()),
    SOUND,
    replace(SOUND, kind="odd", verdict="vanishing", findings=("vanishing",)),
    replace(SOUND, may_be_healthy=False),
    replace(SOUND, may_be_healthy=False, verdict="not judged"),
]


def test_every_figure_counts_what_it_says() -> None:
    scores = score(RUNS)
    assert scores.right_first == (1, 4)
    assert scores.alarmed == (2, 4)
    assert scores.precision == (2, 3)
    assert scores.false_alarms == (1, 4)
    assert scores.judged == (1, 2)
    assert scores.comforted == (1, 4)
    assert scores.unmeasured == (1, 2)
    assert [is_right(run) for run in RUNS] == [True, *[False] * 3, True, False, False, True]


def test_every_case_names_its_source_and_faults_that_there_are() -> None:
    assert SEEN | UNSEEN <= CASES.keys()
    for case in CASES.values():
        assert case.source.startswith("https://"), case.name
        assert (case.kind == "fault") == bool(case.right), case.name
        assert set(case.right) <= FAULTS.keys(), case.name
        assert not case.twin or case.twin.replace("_", "-") in CASES, case.name
