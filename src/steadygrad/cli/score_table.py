"""The table at the end of a run: the model's scores beside the naive answers."""

from rich.console import Console
from rich.table import Table

from steadygrad.train import Outcome


def print_scores(console: Console, outcome: Outcome) -> None:
    """Print scores on the test part, whether they beat every naive answer, and the verdict."""
    units = list(dict.fromkeys(score.unit for score in outcome.scores))
    names = list(dict.fromkeys(score.name for score in outcome.scores))
    value = {(score.name, score.unit): score for score in outcome.scores}
    table = Table("answer", *units, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in names:
        row = [value.get((name, unit)) for unit in units]
        style = "bold" if any(score is not None and score.ours for score in row) else ""
        table.add_row(name, *("" if s is None else f"{s.value:.4g}" for s in row), style=style)
    console.print(table)
    told = "beats every naive answer" if outcome.beats_naive else "does NOT beat every naive answer"
    console.print(f"the model {told} ({units[0]} decides)", highlight=False, soft_wrap=True)
    if outcome.margin:
        console.print(outcome.margin, highlight=False, soft_wrap=True)
    # The margin is measured against one answer, stretch by stretch; a compressor has no stretches.
    ours = next(score for score in outcome.scores if score.ours)
    better = [
        f"{s.name} {s.value:.4g}"
        for s in outcome.scores
        if s.unit == ours.unit and s.beats(ours) and s.name not in outcome.margin
    ]
    if better:
        told = f"better than the model's {ours.value:.4g} {ours.unit}: {', '.join(better)}"
        console.print(told, highlight=False, soft_wrap=True)
    console.print(
        f"verdict: {outcome.verdict}; stopped at step {outcome.step} after {outcome.seconds:.0f} s:"
        f" {outcome.text}",
        highlight=False,
        soft_wrap=True,
    )
    told = [str(finding.get("text", finding)) for finding in outcome.findings]
    for text in told or outcome.not_judged:
        console.print(f"  {text}", highlight=False, soft_wrap=True)
