"""Delayed XOR with and without gradient flossing: exponents before and after, accuracy.

python -m benchmarks.papers.flossing [--help]
"""

import time
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.papers import harness
from benchmarks.papers.harness import Settings
from steadygrad.flow import lyapunov_exponents
from steadygrad.remedies import Applied, Flossing
from steadygrad.tasks import DelayedXOR


class Network(nn.Module):
    """A tanh recurrence at the edge of chaos and one logit."""

    def __init__(self, options: Settings) -> None:
        super().__init__()
        size, bias = options["units"], options["bias"]
        self.rnn = sg.RNN(1, size)
        self.head = nn.Linear(size, 1)
        std = options["gain"] / size**0.5
        nn.init.normal_(self.rnn.get_parameter("weight_hh_l0"), std=std)
        nn.init.normal_(self.rnn.get_parameter("weight_ih_l0"))
        nn.init.normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        nn.init.uniform_(self.rnn.get_parameter("bias_ih_l0"), 0, bias)
        # One bias, as in the paper: two would learn twice as fast.
        nn.init.zeros_(self.rnn.get_parameter("bias_hh_l0")).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0]).squeeze(-1)


def losses(model: nn.Module, task: DelayedXOR, batch: int, source: torch.Generator) -> Any:
    """Mean cross-entropy and accuracy over the steps at which something is asked."""
    x, target = task.draw(batch, source)
    asked = target >= 0
    logits, wanted = model(x)[asked], target[asked].float()
    right = ((logits > 0) == (wanted > 0.5)).float().mean()
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted), right


def exponents(
    model: Network, task: DelayedXOR, settings: Settings, source: torch.Generator
) -> tuple[float, float]:
    """The largest exponent and the last of those that are flossed, over one batch."""
    options = settings["flossing"]
    x, _ = task.draw(settings["task"]["batch"], source)
    with torch.no_grad():
        found = lyapunov_exponents(model.rnn, x, k=options["exponents"], discard=options["discard"])
    return round(found[0].item(), 3), round(found[-1].item(), 3)


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train one network, and look at its exponents before, after the first flossing, and after."""
    torch.manual_seed(seed)
    source = torch.Generator().manual_seed(seed)
    options, batch = settings["task"], settings["task"]["batch"]
    task, model = DelayedXOR(settings["delay"], options["length"]), Network(settings["model"])
    start = ready = exponents(model, task, settings, source)
    flossed = settings["method"] == "flossing"
    applied = Flossing(**settings["flossing"]).apply(model) if flossed else Applied()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, settings["training"]["learning_rate"])
    began = time.perf_counter()
    for update in range(options["updates"]):
        loss, _ = losses(model, task, batch, source)
        if update == 0:
            ready = exponents(model, task, settings, source)
        optimizer.zero_grad()
        (loss + applied.penalty(loss)).backward()
        for parameter in parameters:
            nn.utils.clip_grad_norm_([parameter], settings["training"]["clip"])
        optimizer.step()
        harness.progress(f"{settings['method']}, seed {seed}: {update + 1}, loss {loss:.3f}")
    seconds = time.perf_counter() - began
    with torch.no_grad():
        _, right = losses(model.eval(), task, options["test"], source)
    when = {"initial": start, "ready": ready}
    when["trained"] = exponents(model, task, settings, source)
    pairs = {
        f"{place}_{name}": v
        for name, (a, b) in when.items()
        for place, v in (("first", a), ("last", b))
    }
    return {"accuracy": round(100 * right.item(), 2), "seconds": round(seconds, 1)} | pairs


if __name__ == "__main__":
    harness.main(__file__, attempt)
