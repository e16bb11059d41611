"""Temporal order, Pascanu et al. 2013: SGD, with clipping, with clipping and Omega.

python -m benchmarks.papers.pascanu [--help]
"""

import math
import statistics
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.papers import harness
from benchmarks.papers.harness import Settings
from steadygrad.remedies import Applied, ClipNorm, Omega


class Classifier(nn.Module):
    """The paper's network: one tanh layer, and a softmax on its last state."""

    def __init__(self, options: Settings) -> None:
        super().__init__()
        size, std = options["units"], options["weight_std"]
        self.rnn = sg.RNN(6, size)
        self.head = nn.Linear(size, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=std) if parameter.dim() > 1 else nn.init.zeros_(
                parameter
            )
        self.rnn.get_parameter("weight_hh_l0").data = recurrent_matrix(options)
        # The paper has one bias: two would learn twice as fast.
        self.rnn.get_parameter("bias_hh_l0").requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def recurrent_matrix(options: Settings) -> Tensor:
    """Draw a sparse matrix of the given fan-in and spectral radius."""
    size = options["units"]
    weight = torch.zeros(size, size)
    for row in weight:
        chosen = torch.randperm(size)[: options["fan_in"]]
        row[chosen] = torch.randn(len(chosen))
    radius = torch.linalg.eigvals(weight).abs().max()
    return weight * (options["radius"] / radius)


def sequences(task: Settings, steps: int, batch: int) -> tuple[Tensor, Tensor]:
    """Distractors c to f everywhere, A or B at two places; four classes by their order."""
    symbols = torch.randint(2, 6, (steps, batch))
    target = torch.zeros(batch, dtype=torch.long)
    for bit, place in enumerate(("first", "second")):
        low, high = (int(share * steps) for share in task[place])
        which = torch.randint(0, 2, (batch,))
        symbols[torch.randint(low, high, (batch,)), torch.arange(batch)] = which
        target += which << bit
    return nn.functional.one_hot(symbols, 6).float(), target


def errors(model: nn.Module, settings: Settings, count: int) -> float:
    """Share of errors on fresh sequences."""
    with torch.no_grad():
        x, target = sequences(settings["task"], settings["steps"], count)
        return float((model(x).argmax(1) != target).float().mean())


def is_solved(model: nn.Module, settings: Settings) -> bool:
    """Whether errors are rare enough: on a few sequences first, then on all."""
    bound = settings["training"]["solved_below"]
    few = errors(model, settings, 500) < 4 * bound
    return few and errors(model, settings, settings["training"]["test"]) < bound


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train one network until it is solved or the cap is reached."""
    torch.manual_seed(seed)
    options, steps, method = settings["training"], settings["steps"], settings["method"]
    model = Classifier(settings["model"])
    form = "norm" if "norm form" in method else "squared"
    applied = Omega(options["alpha"], form).apply(model) if "omega" in method else Applied()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=options["learning_rate"])
    clip = ClipNorm(options["clip"]).begin(model, optimizer) if "clip" in method else None
    solved, update, losses = False, 0, []
    for update in range(1, settings["cap"] + 1):
        x, target = sequences(settings["task"], steps, options["batch"])
        loss = nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        (loss + applied.penalty(loss)).backward()
        _guard(model, parameters)
        if clip:
            clip()
        optimizer.step()
        if update % options["check_every"] == 0:
            model.eval()
            solved = is_solved(model, settings)
            model.train()
            losses = [*losses[-9:], loss.item()]
            harness.progress(f"{method}, T {steps}, seed {seed}: {update}, loss {losses[-1]:.3f}")
            if solved:
                break
    return {"solved": solved, "updates": update, "last_loss": statistics.mean(losses)}


def _guard(model: Classifier, parameters: list[nn.Parameter]) -> None:
    """Do what the authors' code does with a gradient that is lost: shrink W_rec, leave the rest."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(grads))
    if math.isfinite(norm) and norm <= 1e10:
        return
    for grad in grads:
        grad.zero_()
    weight = model.rnn.get_parameter("weight_hh_l0")
    weight.grad = 0.02 * weight.detach()


if __name__ == "__main__":
    harness.main(__file__, attempt)
