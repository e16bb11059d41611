"""One scan cut into pieces over time: to cut the gradient, or to keep less of the forward pass."""

from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from steadygrad.cells import State
from steadygrad.nn.joint_tap import JointTap
from steadygrad.nn.recompute import in_one, recomputed
from steadygrad.scan import Layout, OnTap, ScanCall, Weights, is_plain, scan


@dataclass(frozen=True)
class Cuts:
    """How a scan is cut over time.

    Args:
        truncate: Steps after which the state is handed on by value alone: no gradient passes
            from there to the steps before. None for never.
        checkpoint: Whether to keep only about every sqrt(T)-th state and run the steps in
            between once more in the backward pass.
        burn_in: Steps at the beginning that are run without a gradient.

    Raises:
        ValueError: ``truncate`` is neither None nor a whole number of at least one step, or
            ``burn_in`` is not a whole number of at least none.
        TypeError: ``checkpoint`` is not a bool.
    """

    truncate: int | None = None
    checkpoint: bool = False
    burn_in: int = 0

    def __post_init__(self) -> None:
        steps = self.truncate
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ValueError(
                f"truncate: expected None or a whole number of steps, at least 1, got {steps!r}"
            )
        if type(self.burn_in) is not int or self.burn_in < 0:
            raise ValueError(
                f"burn_in: expected a whole number of steps, at least 0, got {self.burn_in!r}"
            )
        if not isinstance(self.checkpoint, bool):
            raise TypeError(
                f"checkpoint should be of type bool, got: {type(self.checkpoint).__name__}"
            )

    def starts(self, steps: int) -> list[int]:
        """Steps, counted in the order of the scan, at which a piece begins."""
        found = {0}
        if self.truncate is not None:
            found.update(range(0, steps, self.truncate))
        if self.checkpoint:
            found.update(range(0, steps, int(sqrt(steps))))
        if self.burn_in:
            found.add(self.burn_in)
        return sorted(found)

    def sever(self, start: int) -> bool:
        """Whether the gradient is cut where a piece begins; never before the first."""
        if start == 0:
            return False
        return start == self.burn_in or (self.truncate is not None and not start % self.truncate)


def scan_in_segments(call: ScanCall, cuts: Cuts) -> tuple[Tensor, State]:
    """Do what `steadygrad.scan.scan` does, in pieces; values as there.

    At a cut only rows that ran on both sides of it lose their gradient: that of a row that has
    ended still flows back from its last state, and of one that has not begun to its first.
    """
    if (cuts.checkpoint or call.on_tap) and not is_plain((call.x, *call.state)):
        # Fake or transformed: nothing to report, and nothing that would take memory for long.
        cuts, call = replace(cuts, checkpoint=False), replace(call, on_tap=None)
    x, weights, state, layout, on_tap = call.x, call.weights, call.state, call.layout, call.on_tap
    steps = len(layout.batch_sizes)
    is_trained = torch.is_grad_enabled()
    if is_trained and cuts.burn_in >= steps:
        raise ValueError(
            f"burn_in: expected sequences longer than the {cuts.burn_in} steps that are run "
            f"without a gradient, got {steps}; run shorter ones under torch.no_grad(), or set "
            "layer.burn_in = 0"
        )
    starts = cuts.starts(steps) if is_trained else [0]
    if len(starts) == 1 and not cuts.checkpoint:
        return scan(call)
    noise = weights.noise
    names, flat = (list(part) for part in zip(*replace(weights, noise={}).flat(), strict=True))
    flat += call.start or ()
    joint = JointTap(layout, on_tap) if on_tap else None
    if joint:
        x, *rest = joint.gathered(x, *flat, *state)
        flat, state = list(rest[: len(flat)]), tuple(rest[len(flat) :])
    pieces = _pieces(layout, starts)
    hidden: list[Tensor] = []
    # Every piece writes into one output: beside it, the pieces would be there once more.
    whole = state[0].new_empty(len(x), state[0].shape[1]) if cuts.checkpoint else None
    ran = 0
    # One split instead of many slices: each slice would send back a gradient of the whole length.
    order = sorted(p for p, _ in pieces)
    rows = dict(zip(order, _split(x, pieces), strict=True))
    none = [None] * len(pieces)
    begins = none if call.resets is None else _split(call.resets, pieces)
    resets = dict(zip(order, begins, strict=True))
    for start, (begin, piece) in zip(starts, pieces, strict=True):
        observer = joint.piece(begin) if joint else None
        heard = {name: _noise_of(value, layout, begin, piece) for name, value in noise.items()}

        def run(
            x: Tensor,
            *rest: Tensor,
            piece: Layout = piece,
            observer: OnTap | None = observer,
            heard: dict[str, Tensor] = heard,
            resets: Tensor | None = resets[begin],
        ) -> tuple[Tensor, ...]:
            own = replace(Weights.from_flat(names, rest[: len(names)]), noise=heard)
            part = replace(
                call,
                x=x,
                weights=own,
                state=rest[len(flat) :],
                layout=piece,
                resets=resets,
                start=rest[len(names) : len(flat)] or None,
                on_tap=observer,
            )
            out, after = scan(part)
            return out, *after

        severed = min(ran, piece.batch) if cuts.sever(start) else 0
        given = (rows[begin], *flat, *(_entering(s, piece.batch, severed) for s in state))
        if start < cuts.burn_in:
            with torch.no_grad():
                out, *after = run(*given)
                if whole is not None:
                    out = whole.narrow(0, layout.offsets[begin], piece.rows).copy_(out)
        elif whole is None:
            out, *after = run(*given)
        else:
            place = whole.narrow(0, layout.offsets[begin], piece.rows)
            out, *after = recomputed(run, place, *given)
        hidden.append(out)
        state = tuple(
            a if len(a) == len(s) else torch.cat([a, s[len(a) :]])
            for a, s in zip(after, state, strict=True)
        )
        ran = piece.batch
    if whole is None:
        return layout.join(hidden), state
    return in_one(whole, hidden, [layout.offsets[begin] for begin, _ in pieces]), state


def _pieces(layout: Layout, starts: list[int]) -> list[tuple[int, Layout]]:
    """First time step in memory order, and layout, of each piece in the order of the scan."""
    steps = len(layout.batch_sizes)
    found = []
    for start, stop in zip(starts, [*starts[1:], steps], strict=True):
        begin, end = (steps - stop, steps - start) if layout.reverse else (start, stop)
        found.append((begin, Layout(layout.batch_sizes[begin:end], layout.reverse)))
    return found


def _split(x: Tensor, pieces: list[tuple[int, Layout]]) -> tuple[Tensor, ...]:
    """Rows of each piece, in memory order."""
    return x.split([p.rows for _, p in sorted(pieces, key=lambda item: item[0])])


def _entering(state: Tensor, rows: int, severed: int) -> Tensor:
    """The first ``rows`` of a state, the first ``severed`` of these without their past."""
    if severed == rows:
        return state[:rows].detach()
    return torch.cat([state[:severed].detach(), state[severed:rows]]) if severed else state[:rows]


def _noise_of(noise: Tensor, layout: Layout, begin: int, piece: Layout) -> Tensor:
    """The part of a scan's noise that a piece of it, from time step ``begin`` on, reads."""
    if noise.dim() == 1:
        return noise
    if len(noise) == layout.rows:
        first = layout.offsets[begin]
        return noise[first : first + piece.rows]
    return noise[: piece.batch]
