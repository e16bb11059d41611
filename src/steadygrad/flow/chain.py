"""Calls that hand their state on, as one call over all their steps.

A layer called one time step at a time, or chunk after chunk, and torch's cells in a loop of one's
own: each call by itself says nothing of how far a gradient gets. Where the state that a call begins
with is the last state of an earlier one, the two are one recurrence. A `Chain` lays the calls of
such a loop end to end, so that everything that measures one call measures the loop.

A row whose state is set to zero between two calls, as at the end of an episode, begins anew there;
a state that is handed on by value alone (detached) begins anew for all rows. What lies between two
such places is a sequence of its own, so that a chain is a batch of sequences of several lengths.

What the loss sends to a state in the middle is told from what later calls send back to it by
difference: the gradient at the state, less that at the state which the next call was given.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygrad.flow.capture import Call
from steadygrad.flow.replay import OutputGradient
from steadygrad.nn.arrangement import Arrangement

Lookup = Callable[[int, str, int], Tensor | None]
"""The gradient at a tensor of a link: number of the link, ``"output"``, ``"last"`` or ``"state"``,
and which state."""


@dataclass(frozen=True)
class _Sequence:
    """One row of the batch over some links in a row.

    Attributes:
        row: Of the batch.
        first: The first link.
        last: The last link, itself included.
        steps: Time steps.
    """

    row: int
    first: int
    last: int
    steps: int


class Chain:
    """Calls of one layer, each beginning where the one before ended.

    Args:
        links: The calls.
        passes: Per link, the rows ``(B,)`` whose state is that of the link before, graph and all.

    Attributes:
        is_read_inside: Whether the loss was found to read a state in the middle that no output
            shows (an LSTM's c, a lower layer's h): a chain cannot be measured as one call then.
    """

    def __init__(self, links: Sequence[Call], passes: Sequence[Tensor]) -> None:
        self.links, self._passes = list(links), list(passes)
        self.is_read_inside = False
        self._arranged = [call.arranged for call in links]
        self._steps = [len(a.batch_sizes) for a in self._arranged]
        self._batch = self._arranged[0].batch
        self._sequences = sorted(self._cut(), key=lambda s: -s.steps)
        self._index = self._places()

    def _cut(self) -> Iterator[_Sequence]:
        """Every row, cut where it begins anew."""
        for row in range(self._batch):
            first = 0
            for link in range(1, len(self.links) + 1):
                if link == len(self.links) or not bool(self._passes[link][row]):
                    yield _Sequence(row, first, link - 1, sum(self._steps[first:link]))
                    first = link

    def _places(self) -> Tensor:
        """Where each row of the chain, in the order of its layout, stands among all rows."""
        starts = [0]
        for steps in self._steps:
            starts.append(starts[-1] + steps * self._batch)
        by_sequence = [
            [
                starts[link] + step * self._batch + s.row
                for link in range(s.first, s.last + 1)
                for step in range(self._steps[link])
            ]
            for s in self._sequences
        ]
        longest = self._sequences[0].steps
        order = [places[t] for t in range(longest) for places in by_sequence if len(places) > t]
        return torch.tensor(order)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sequences at each time step."""
        steps = [s.steps for s in self._sequences]
        return tuple(sum(n > t for n in steps) for t in range(steps[0]))

    def call(self, name: str) -> Call:
        """All links as one call, without a graph."""
        first, view = self.links[0], self.links[0].view
        drives = [
            view.read(c.input, c.state, c.lengths, c.noise_seed, a)
            for c, a in zip(self.links, self._arranged, strict=True)
        ]
        outputs = [a.rows(c.output) for c, a in zip(self.links, self._arranged, strict=True)]
        zeros = view.zeros(outputs[0], self._batch)
        starts = [d.state or zeros for d in drives]
        ends = [a.states(c.last) for c, a in zip(self.links, self._arranged, strict=True)]
        sizes = self.sizes
        is_severed = any(s.first and not self._is_reset(s) for s in self._sequences)
        with torch.no_grad():
            noise = [_by_row(d.noise, d.batch_sizes) for d in drives]
            return Call(
                name,
                first.layer,
                self._picked([d.x for d in drives]),
                self._stacked(starts, [s.first for s in self._sequences]),
                self._picked(outputs),
                self._stacked(ends, [s.last for s in self._sequences]),
                goes_on=first.goes_on,
                noise=None
                if any(n is None for n in noise)
                else tuple(
                    {name: self._picked([n[k][name] for n in noise if n]) for name in drawn}
                    for k, drawn in enumerate(noise[0] or ())
                ),
                layout=Arrangement.of_sizes(sizes, packed_sizes=torch.tensor(sizes)),
                chain=self,
                severed=len(sizes) if is_severed else None,
            )

    def _is_reset(self, s: _Sequence) -> bool:
        """Whether a sequence begins at zeros, and not at a state that was handed on by value."""
        call, arranged = self.links[s.first], self._arranged[s.first]
        return not any(bool(state[:, s.row].any()) for state in arranged.states(call.state))

    def _picked(self, rows: Sequence[Tensor]) -> Tensor:
        """Rows of all links, in the order of the chain."""
        together = torch.cat(list(rows))
        return together[self._index.to(together.device)].detach()

    def _stacked(
        self, states: Sequence[tuple[Tensor, ...]], links: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Of each sequence the states at one of its links, each ``(L, S, ·)``."""
        pairs = list(zip(links, self._sequences, strict=True))
        return tuple(
            torch.stack([states[link][i][:, s.row] for link, s in pairs], 1).detach()
            for i in range(len(states[0]))
        )

    def collect(self, lookup: Lookup) -> OutputGradient:
        """What the loss sent to the chain from outside of it, shaped as the results of `call`."""
        view, links = self.links[0].view, range(len(self.links))
        outside = [self._sent_to_states(link, lookup) for link in links]
        at_output: list[Tensor | None] = [
            None if view.is_step else lookup(link, "output", 0) for link in links
        ]
        if all(g is None for g in at_output) and not any(g.any() for each in outside for g in each):
            nothing = all(
                lookup(link, "last", i) is None for link in links for i in range(len(view.widths))
            )
            if nothing:
                return None, (None,) * len(view.widths)
        ends = {(s.last, s.row) for s in self._sequences}
        rows: list[Tensor] = []
        for link, arranged in enumerate(self._arranged):
            grad = at_output[link]
            like = torch.zeros_like(self.links[link].output) if grad is None else grad
            here = arranged.rows(like).clone()
            inner = torch.tensor([(link, row) not in ends for row in range(self._batch)])
            inner = inner.to(here.device)
            first, *others = outside[link]
            # h of the top layer is the output of the step that made it.
            here[-self._batch :] += first[-1] * inner[:, None]
            rest = [first[:-1], *others]
            self.is_read_inside |= any(bool((g * inner[:, None]).any()) for g in rest)
            rows.append(here)
        last = self._stacked([tuple(each) for each in outside], [s.last for s in self._sequences])
        return self._picked(rows), last

    def _sent_to_states(self, link: int, lookup: Lookup) -> list[Tensor]:
        """Gradients at the states after a link that do not come through the next one."""
        call, arranged = self.links[link], self._arranged[link]
        found = []
        for i, state in enumerate(call.last):
            total = lookup(link, "last", i)
            (here,) = arranged.states((torch.zeros_like(state) if total is None else total,))
            if link + 1 < len(self.links):
                through = lookup(link + 1, "state", i)
                if through is not None:
                    (back,) = self._arranged[link + 1].states((through,))
                    passes = self._passes[link + 1].to(back)[:, None]
                    here = here - back * passes
            found.append(here)
        return found

    def spread(self, grad: OutputGradient) -> list[tuple[Tensor, Tensor]]:
        """A gradient at the results of `call` at those of the links, as tensor and gradient."""
        view = self.links[0].view
        pairs: list[tuple[Tensor, Tensor]] = []
        at_states: dict[tuple[int, int], Tensor] = {}
        for i, g in enumerate(grad[1]):
            if g is None:
                continue
            for place, s in enumerate(self._sequences):
                arranged = self._arranged[s.last]
                if (s.last, i) not in at_states:
                    (like,) = arranged.states((self.links[s.last].last[i],))
                    at_states[s.last, i] = torch.zeros_like(like)
                at_states[s.last, i][:, s.row] += g[:, place]
        if grad[0] is not None:
            together = grad[0].new_zeros(sum(self._steps) * self._batch, grad[0].shape[1])
            together[self._index.to(together.device)] = grad[0]
            for link, rows in enumerate(together.split([n * self._batch for n in self._steps])):
                if view.is_step:  # its output is its state
                    before = at_states.get((link, 0), 0)
                    at_states[link, 0] = before + rows[None]
                else:
                    pairs.append((self.links[link].output, self._arranged[link].laid(rows)))
        for (link, i), g in at_states.items():
            pairs.append((self.links[link].last[i], self._arranged[link].handed((g,))[0]))
        return [(t, g) for t, g in pairs if t.requires_grad]

    @property
    def results(self) -> list[Tensor]:
        """Every tensor at which a gradient is needed for `collect`."""
        states = [s for call in self.links[1:] for s in call.state]
        made = [t for call in self.links for t in (call.output, *call.last)]
        return [t for t in made + states if t.requires_grad]

    def lookup(self, grads: dict[int, Tensor | None]) -> Lookup:
        """By the identity of live tensors."""

        def look(link: int, what: str, index: int) -> Tensor | None:
            call = self.links[link]
            by = {"output": (call.output,), "last": call.last, "state": call.state}
            return grads.get(id(by[what][index]))

        return look


def _by_row(
    noise: tuple[dict[str, Tensor], ...] | None, batch_sizes: tuple[int, ...]
) -> tuple[dict[str, Tensor], ...] | None:
    """Noise of a whole sequence, ``(B, H)``, repeated for all its steps."""
    if noise is None:
        return None
    rows = sum(batch_sizes)
    return tuple(
        {n: v if len(v) == rows else v.repeat(len(batch_sizes), 1) for n, v in drawn.items()}
        for drawn in noise
    )


def chained(calls: Sequence[Call], apart: frozenset[str] = frozenset()) -> list[Call]:
    """Calls, those that hand their state on joined to one, in the order in which they begin.

    Args:
        calls: As caught, in order.
        apart: Names of chains that are to be left as the calls that they are.
    """
    groups: list[list[int]] = []
    passes: dict[int, Tensor] = {}
    group_of: dict[int, int] = {}  # by the call that ends it
    latest: dict[int, int] = {}  # the last call of each layer
    for number, call in enumerate(calls):
        before = latest.get(id(call.layer)) if call.handed is None else call.handed
        latest[id(call.layer)] = number
        rows = None
        if before in group_of and _can_link(call):
            rows = _link(calls[before], call)
        if rows is None:
            if _can_link(call):
                group_of[number] = len(groups)
            groups.append([number])
            continue
        assert before is not None
        passes[number] = rows
        group_of[number] = group_of.pop(before)
        groups[group_of[number]].append(number)
    return _stacked(calls, list(_named(calls, groups, passes, apart)))


def _stacked(calls: Sequence[Call], made: Sequence[tuple[Sequence[int], Call]]) -> list[Call]:
    """What was made of the calls, each with the names of those that feed it."""
    names = {number: call.name for numbers, call in made for number in numbers}
    found: list[Call] = []
    for numbers, call in made:
        below = [names[f] for number in numbers for f in calls[number].fed]
        found.append(replace(call, below=tuple(n for n in dict.fromkeys(below) if n != call.name)))
    return found


def _named(
    calls: Sequence[Call],
    groups: Sequence[Sequence[int]],
    passes: dict[int, Tensor],
    apart: frozenset[str],
) -> Iterator[tuple[Sequence[int], Call]]:
    """What each group is from now on, with the calls it stands for."""
    seen: dict[str, int] = {}
    for group in groups:
        first = calls[group[0]]
        layer = first.name.partition("#")[0]
        name = f"{layer}#{seen[layer] + 1}" if layer in seen else layer
        is_chain = len(group) > 1 or (first.is_viewed and first.view.is_step)
        if not is_chain or name in apart:
            for number in group:
                seen[layer] = seen.get(layer, 0) + 1
                own = f"{layer}#{seen[layer]}" if seen[layer] > 1 else layer
                yield (number,), replace(calls[number], name=own)
            continue
        seen[layer] = seen.get(layer, 0) + 1
        none = torch.zeros(first.arranged.batch, dtype=torch.bool)
        chain = Chain([calls[n] for n in group], [none, *(passes[n] for n in group[1:])])
        yield group, chain.call(name)


def _can_link(call: Call) -> bool:
    """Whether a call may be a link: rows of one length, read one way."""
    if not call.is_viewed or call.view.num_directions == 2:
        return False
    return call.arranged.is_dense


def _link(before: Call, call: Call) -> Tensor | None:
    """Rows whose state is handed on with its graph; None where the two calls are no chain.

    Each row has to be what the call before ended in, or zeros; none passes a gradient on where the
    state came by value alone.
    """
    if before.layer is not call.layer or not call.state:
        return None
    given, made = call.arranged.states(call.state), before.arranged.states(before.last)
    if [s.shape for s in given] != [s.shape for s in made]:
        return None
    batch = given[0].shape[1]
    same, zero = torch.ones(batch, dtype=torch.bool), torch.ones(batch, dtype=torch.bool)
    for a, b in zip(given, made, strict=True):
        same &= (a == b).all(-1).all(0).cpu()
        zero &= (a == 0).all(-1).all(0).cpu()
    if not bool((same | zero).all()):
        return None
    if call.handed is None:
        return torch.zeros_like(same) if bool((same & ~zero).any()) else None
    return same
