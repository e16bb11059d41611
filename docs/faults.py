"""The page of faults, from what each states about itself: ``python -m docs.faults``."""

from collections.abc import Iterator
from pathlib import Path

from steadygrad.faults import FAULTS, Fault
from steadygrad.remedies import REMEDIES, ranked

PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """\
# Faults

<!-- Made by `python -m docs.faults`; edit the files in src/steadygrad/faults instead. -->

Every fault that a diagnosis can name, the worst first: what it means, how it is recognised, and
what helps. `steadygrad explain FAULT` prints the same; `sg.Thresholds(name=value)` changes a
threshold; [choose.md](choose.md) compares the remedies.

Not everything that keeps a training from learning shows in its gradient. Where the losses are told
(`w.loss(loss)`, or `losses=` of `sg.diagnose`), the answers are compared with the best answer that
ignores the input: the mean of the targets, or the frequencies of the classes (quantity
[`skill`](quantities.md)). A loss that no longer falls, after 100 steps or more, and a skill below
0.05: the verdict is "not judged" then, not "healthy", unless a fault explains it. Inputs and
targets shuffled apart, labels a step off, random targets, or batch and time in each other's place
look like this. A loss that rests below what a constant scores is healthy, and so is one that still
falls.
Recognised are squared, absolute and Huber's errors, and cross-entropies of classes or of two, with
weights of classes and smoothed labels; of other losses nothing is said. Rewards are no targets.
"""


def section(fault: Fault) -> Iterator[str]:
    """Everything about one fault, paragraph by paragraph."""
    yield f"## {fault.name}"
    yield fault.meaning
    yield f"**You see** {fault.symptom}. **Look at** {fault.look_at}."
    yield f"**How it is recognised.** {fault.measured}"
    if fault.thresholds:
        yield "\n".join(
            f"- threshold `{name}={threshold.default:g}`: {threshold.meaning}"
            for name, threshold in fault.thresholds.items()
        )
    if fault.caused_by:
        causes = ", ".join(f"[{name}](#{name})" for name in fault.caused_by)
        yield f"Can follow from {causes}; beside one of these it is reported only if it came first."
    names = [name for name in ranked(fault.name) if name in REMEDIES]
    if names:
        tried = "\n".join(f"{i}. `{n}`: {REMEDIES[n].claim}" for i, n in enumerate(names, 1))
        yield f"**What is tried**, in this order:\n\n{tried}"
    if fault.advice:
        yield "**Besides**\n\n" + "\n".join(f"- {text}" for text in fault.advice)


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for fault in FAULTS.values():
        parts += section(fault)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(FAULTS)} faults")
