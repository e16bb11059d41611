"""Findings on how the data meets the network: padding in the loss, a state that leaks.

Both are read off the calls of the recurrent layers, and both abstain where a healthy use would
look the same.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from steadygrad.diagnosis.finding import Finding, Thresholds, confidence
from steadygrad.flow import Call
from steadygrad.flow.replay import OutputGradient

BEYOND = 2  # times the longest run inside from which a run at the end is padding
LEAKS = 5  # batches in a row after which a state that jumps is no accident


def padding(call: Call, gradient: OutputGradient, thresholds: Thresholds) -> Finding | None:
    """Find padded steps that the loss reads.

    Sequences count as padded if they end in runs of one and the same input, of at least two steps,
    of different lengths, and longer than any run of that input before the ends; as many steps as
    the longest of these are taken for the sequence's own. A loss that reads one step of a sequence
    tells nothing: images that end in background look the same and are none.
    """
    output = gradient[0]
    if output is None or isinstance(call.input, PackedSequence) or call.input.dim() != 3:
        return None
    if call.lengths is not None:  # nothing is computed beyond them
        return None
    first = bool(getattr(call.layer, "batch_first", False))
    x = call.input.transpose(0, 1) if first else call.input
    entered = (output.transpose(0, 1) if first else output).double().square().sum(-1)  # (T, B)
    runs, inside = _runs(x)
    steps = torch.arange(len(x), device=x.device)[:, None]
    # Inputs of few values repeat themselves within the sequences, too.
    # So the first steps of a long run at the end may be the sequence's own.
    is_long = (runs >= 2) & (runs > BEYOND * inside)
    padded = (steps >= len(x) - runs + inside) & is_long
    read = ((entered > 0) & padded).sum(0)
    total = float(entered.sum())
    if not total > 0 or runs.unique().numel() < 2 or int((read >= 2).sum()) < 2:
        return None
    share = float((entered * padded).sum()) / total
    if share < thresholds.padding:
        return None
    return Finding(
        "padding",
        call.name,
        f"{share:.0%} of what the loss asks of {call.name} is asked at the ends of "
        f"{int((read >= 2).sum())} sequences where the input no longer changes: this looks like "
        "padding.",
        evidence={
            "share_of_squared_gradient": share,
            "sequences": int((read >= 2).sum()),
            "longest_run": int(runs.max()),
            "threshold": thresholds.padding,
        },
        # That the ends are padding is inferred, not known.
        confidence=min(0.9, confidence(share / thresholds.padding - 1)),
    )


def _runs(x: Tensor) -> tuple[Tensor, int]:
    """Steps of the run of one value that ends each sequence, and of its longest run elsewhere.

    The value is the same for all sequences; what it does not do twice in a row counts as 0.
    """
    value = x[-1].mode(0).values  # what most sequences end in
    same = (x == value).all(-1)
    ends = same.flip(0).long().cumprod(0).sum(0)
    steps = torch.arange(len(x), device=x.device)[:, None]
    same = same & (steps < len(x) - ends)
    count = same.long().cumsum(0)
    before = torch.where(same, 0, count).cummax(0).values  # the count where the run began
    longest = int((count - before).max())
    return ends, longest if longest > 1 else 0


@dataclass
class Leak:
    """Whether states are handed on between sequences that do not go on.

    It is shown one call per training step, and remembers the last input and state of the one
    before.
    """

    _last: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _jumps: dict[str, int] = field(default_factory=dict)

    def see(self, call: Call) -> Finding | None:
        """Look at the next call of a layer."""
        if isinstance(call.input, PackedSequence) or call.input.dim() != 3 or not call.last:
            return None
        if call.lengths is not None:
            return None
        if not call.state and call.name not in self._last:
            return None  # nothing is ever handed on
        first = bool(getattr(call.layer, "batch_first", False))
        x = call.input.transpose(0, 1) if first else call.input
        before = self._last.get(call.name)
        self._last[call.name] = (x[-1].detach().clone(), call.last[0].detach().clone())
        if before is None or not call.state or not _same(call.state[0], before[1]):
            self._jumps[call.name] = 0
            return None
        inside, between, apart = _distances(x, before[0])
        # Without steps that are small against the distance of two sequences, nothing can be told.
        if not inside < 0.5 * apart:
            return None
        jumps = self._jumps.get(call.name, 0) + 1 if between > 0.8 * apart else 0
        self._jumps[call.name] = jumps
        return None if jumps < LEAKS else _leak(call, jumps, inside, between, apart)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b) and bool(a.any())


def _distances(x: Tensor, last: Tensor) -> tuple[float, float, float]:
    """Median distance of neighbours in a sequence, of the seam, and of different sequences."""
    if x.shape[1] < 2 or len(x) < 2 or last.shape != x[0].shape:
        return float("inf"), 0.0, 0.0
    inside = (x[1:] - x[:-1]).norm(dim=-1).median()
    between = (x[0] - last).norm(dim=-1).median()
    apart = (x - x.roll(1, 1)).norm(dim=-1).median()
    return float(inside), float(between), float(apart)


def _leak(call: Call, jumps: int, inside: float, between: float, apart: float) -> Finding:
    return Finding(
        "leaking",
        call.name,
        f"{call.name} starts each batch from the state of the one before, but the inputs do not go "
        f"on: for {jumps} batches in a row they jump as far as from one sequence to another.",
        evidence={
            "batches_in_a_row": jumps,
            "step_inside_a_sequence": inside,
            "jump_between_batches": between,
            "distance_of_sequences": apart,
        },
        confidence=min(0.95, 1 - 0.5**jumps),
    )
