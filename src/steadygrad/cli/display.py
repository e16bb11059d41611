"""Display the events of a run: live in a terminal, as plain lines elsewhere."""

import math
import time
from types import TracebackType
from typing import Self, final

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from steadygrad.train.events import (
    Event,
    Prepared,
    Read,
    Remark,
    Saved,
    Started,
    Stepped,
    Understood,
    Validated,
)

FADING = 0.98  # decay of the running means of the loss and of the share of clipped steps


def heading(event: Started) -> list[str]:
    """Return the lines that open a run."""
    gone_on = f", from step {event.step}" if event.step else ""
    lines = [f"{event.title}: {event.parameters:,} parameters on {event.device}{gone_on}"]
    return [*lines, f"  run: {event.folder}"]


def print_understood(console: Console, rows: tuple[tuple[str, str], ...]) -> None:
    """Print how the file was understood, as a table."""
    width = max((len(title) for title, _ in rows), default=0)
    for title, text in rows:
        console.print(f"  {title:<{width}}  {text}", highlight=False, soft_wrap=True, markup=False)


def validation(event: Validated) -> str:
    """Return a validation as one line."""
    figures = ", ".join(f"{unit} {value:.4g}" for unit, value in event.figures.items())
    best = " (best)" if event.is_best else ""
    return f"step {event.step:>6}  epoch {event.epoch:>3}  validation {figures}{best}"


@final
class Lines:
    """One plain line for each notable event."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._told = time.perf_counter()

    def _read(self, event: Read) -> None:
        """Report the progress of reading a large file from time to time."""
        now = time.perf_counter()
        if now - self._told > 5:
            self._told = now
            self.console.print(f"  read {event.done / event.total:.0%}", highlight=False)

    def tell(self, event: Event) -> None:
        """Print an event; steps and checkpoints print nothing."""
        lines: list[str] = []
        if isinstance(event, Understood):
            print_understood(self.console, event.rows)
        elif isinstance(event, Read):
            self._read(event)
        elif isinstance(event, Started):
            lines = heading(event)
        elif isinstance(event, Prepared):
            lines = [f"  {event.text}"]
        elif isinstance(event, Validated):
            lines = [validation(event)]
        elif isinstance(event, Remark):
            lines = [f"step {event.step:>6}  {event.text}"]
        for line in lines:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)


@final
class Live:
    """Figures updated in place: loss, gradient norm, clipped share, horizon, time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.lines = Lines(console)
        self.live = RichLive(console=console, refresh_per_second=8, transient=True)
        self.started: Started | None = None
        self.loss = math.nan
        self.clipped = 0.0
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self.live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def tell(self, event: Event) -> None:
        """Redraw after a step; print notable events above the figures."""
        if isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Read):
            self.live.update(_bar(event.done, event.total, f"read {event.done / event.total:.0%}"))
        elif not isinstance(event, Saved):
            if isinstance(event, Started):
                self.started = event
            self.lines.tell(event)

    def _step(self, event: Stepped) -> None:
        kept = FADING if math.isfinite(self.loss) else 0.0
        self.loss = kept * (self.loss if kept else 0.0) + (1 - kept) * event.loss
        share = float(event.gradient.get("clipped_share") or 0.0)
        self.clipped = FADING * self.clipped + (1 - FADING) * share
        now = time.perf_counter()
        if now - self._drawn > 0.1:  # limit the drawing, which could slow down fast steps
            self._drawn = now
            self.live.update(self.figures(event))

    def figures(self, event: Stepped) -> Group:
        """Return the current figures after ``event``."""
        assert self.started is not None  # Started comes before Stepped
        done = event.step - self.started.step
        left = event.seconds / max(event.step, 1) * (self.started.max_steps - event.step)
        horizon = event.gradient.get("horizon")
        norm = event.gradient.get("grad_norm", math.nan)
        row = {
            "step": f"{event.step}/{self.started.max_steps}",
            "epoch": str(event.epoch),
            "loss": f"{self.loss:.4f}",
            "gradient norm": f"{norm:.3g}",
            "clipped": f"{self.clipped:.0%}",
            "horizon": "-" if horizon is None else f"{horizon} steps",
            "verdict": str(event.gradient.get("verdict") or "-"),
            "time left": f"at most {clock(left)}" if done else "-",
        }
        table = Table(*row, box=None, pad_edge=False)
        table.add_row(*row.values())
        # A bar alone does not end its line; the next line would overwrite it.
        bar = Table.grid(expand=True)
        bar.add_row(ProgressBar(total=self.started.max_steps, completed=event.step))
        return Group(bar, table, Text("Ctrl-C saves and stops", style="dim"))


def _bar(done: int, total: int, told: str) -> Group:
    """A bar with a line below, because a bar alone does not end its line."""
    bar = Table.grid(expand=True)
    bar.add_row(ProgressBar(total=total, completed=done))
    return Group(bar, Text(told, style="dim"))


def clock(seconds: float) -> str:
    """Return a duration as 59 s, 12 min or 3 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
