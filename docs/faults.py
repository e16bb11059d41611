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
