"""A recurrent network that simulates: it reads true outputs for a few steps, then inputs alone."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from benchmarks.papers import harness
from benchmarks.papers.harness import Settings
from benchmarks.papers.identification.protocol import Simulate, rmse
from steadygrad.errors import InputError
from steadygrad.tasks.system_id import Record


class Diagonal(nn.Module):
    """Diagonal linear recurrences with a nonlinearity between them: a state space model.

    Args:
        inputs: Features of the input.
        hidden: Features between the blocks, and complex modes of each.
        blocks: How many.
    """

    def __init__(self, inputs: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, hidden)
        # No eigenvalue near zero, and slow phases: physical systems are smooth.
        self.scans = nn.ModuleList(
            sg.nn.LRU(hidden, hidden, r_min=0.5, r_max=0.999, max_phase=math.pi / 10)
            for _ in range(blocks)
        )
        self.gates = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Features of every step, and nothing for the last state."""
        x = self.into(x)
        for scan, gate in zip(self.scans, self.gates, strict=True):
            x = x + F.glu(gate(F.gelu(scan(x)[0])), -1)
        return x, None


class Simulator(nn.Module):
    """Recurrence and linear answer; its input is u, the last true output, and whether there is one.

    So the first steps find the state that fits what was measured, in any cell.

    Args:
        inputs: Features of u.
        cell: As `steadygrad.Recurrent` takes it, or ``"diagonal"``.
        hidden: Units of a layer.
        layers: How many.
    """

    def __init__(self, inputs: int, cell: str, hidden: int, layers: int = 1) -> None:
        super().__init__()
        if cell == "diagonal":
            self.rnn = Diagonal(inputs + 2, hidden, layers)
        else:
            self.rnn = sg.Recurrent(cell, inputs + 2, hidden, layers)
        self.head = nn.Linear(hidden, 1)

    def forward(self, u: Tensor, begun: Tensor) -> Tensor:
        """Outputs after those begun with, ``(T - begin, B, 1)``."""
        begin, steps = len(begun), len(u)
        last = torch.cat([begun.new_zeros(1, *begun.shape[1:]), begun])
        known = torch.ones_like(last)
        known[0] = 0
        shown = torch.cat([last, known], -1)
        shown = F.pad(shown, (0, 0, 0, 0, 0, steps - begin - 1))
        return self.head(self.rnn(torch.cat([u, shown], -1))[0][begin:])


def fit(train: Record, val: Record, settings: Settings) -> tuple[Simulate, float]:
    """Adam on random windows; the weights that simulate what is held back best are kept.

    Settings: ``cell``, ``hidden``, ``layers``, ``window`` (steps after ``begin``), ``batch``,
    ``learning_rate`` (the highest; it falls as a cosine), ``updates``, ``validate_every``; and
    ``folds``: if given, each restart holds back the next of so many blocks of both parts together.
    """
    (u, y), held, allowed = _parts(train, val, settings)
    begin, updates = settings["begin"], settings["updates"]
    model = Simulator(u.shape[-1], settings["cell"], settings["hidden"], settings["layers"])
    optimizer = torch.optim.Adam(model.parameters(), settings["learning_rate"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    best, kept = float("inf"), copy.deepcopy(model.state_dict())
    steps = torch.arange(begin + settings["window"])[:, None]
    for update in range(1, updates + 1):
        rows = steps + allowed[torch.randint(len(allowed), (settings["batch"],))]
        targets = y[rows, 0]
        loss = F.mse_loss(model(u[rows, 0], targets[:begin]), targets[begin:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if update % settings["validate_every"] == 0 or update == updates:
            error = rmse(model, held, begin)
            if error < best:
                best, kept = error, copy.deepcopy(model.state_dict())
            harness.progress(f"{settings['cell']} {update}: {loss.item():.5f}, val {error:.4f}")
    model.load_state_dict(kept)
    return model, best


def _parts(train: Record, val: Record, settings: Settings) -> tuple[Record, Record, Tensor]:
    """The record to fit on, what is held back of it, and where a window may begin."""
    length = settings["begin"] + settings["window"]
    if "folds" not in settings:
        return train, val, torch.arange(len(train[0]) - length + 1)
    u, y = (torch.cat(pair) for pair in zip(train, val, strict=True))
    fold, folds = settings["restart"] % settings["folds"], settings["folds"]
    low, high = len(u) * fold // folds, len(u) * (fold + 1) // folds
    starts = torch.arange(len(u) - length + 1)
    starts = starts[(starts + length <= low) | (starts >= high)]
    if not len(starts):
        raise InputError(f"window: {length} steps do not fit beside fold {fold} of {folds}")
    return (u, y), (u[low:high], y[low:high]), starts
