"""A tanh RNN started as an echo state network, and Nesterov momentum.

python -m benchmarks.papers.momentum [--help]
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from benchmarks.papers.harness import Settings, main, progress
from steadygrad.spec import read_spec
from steadygrad.tasks import TASKS, Synthetic


class Network(nn.Module):
    """Tanh units with a sparse recurrent matrix of spectral radius above one; inputs centred."""

    def __init__(self, task: Synthetic, options: Settings, centre: Tensor) -> None:
        super().__init__()
        units = options["units"]
        self.register_buffer("centre", centre)
        self.rnn = sg.RNN(task.input_size, units)
        self.head = nn.Linear(units, task.output_size)
        self.every_step = task.every_step
        nn.init.normal_(self.rnn.get_parameter("weight_ih_l0"), std=options["input_std"])
        nn.init.normal_(self.head.weight, std=options["output_std"])
        self.rnn.get_parameter("weight_hh_l0").data = echo_state(units, options)
        for bias in ("bias_ih_l0", "bias_hh_l0"):
            nn.init.zeros_(self.rnn.get_parameter(bias))
        # One bias, as in the paper: two would learn twice as fast.
        self.rnn.get_parameter("bias_hh_l0").requires_grad_(False)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.rnn(x - self.get_buffer("centre"))[0]
        return self.head(hidden if self.every_step else hidden[-1])


def echo_state(units: int, options: Settings) -> Tensor:
    """Draw a sparse matrix of the given fan-in and spectral radius."""
    weight = torch.zeros(units, units)
    for row in weight:
        row[torch.randperm(units)[: options["fan_in"]]] = torch.randn(options["fan_in"])
    return weight * (options["radius"] / torch.linalg.eigvals(weight).abs().max())


class Problem:
    """A task, its loss summed over the steps that are asked, and the paper's count of errors."""

    def __init__(self, text: str, seed: int) -> None:
        task = read_spec(text, TASKS, "task")
        assert isinstance(task, Synthetic)
        self.task, self.source = task, torch.Generator().manual_seed(seed)
        x, target = self.draw(1000)
        self.centre = x.mean((0, 1))
        self.mean = 0.0 if task.every_step else float(target.mean())

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        return self.task.draw(size, self.source)

    def loss(self, answers: Tensor, target: Tensor) -> Tensor:
        if not self.task.every_step:
            return (answers + self.mean - target).square().mean()
        asked = self.asked(target)
        return F.cross_entropy(answers[asked], target[asked], reduction="sum") / target.shape[1]

    def asked(self, target: Tensor) -> Tensor:
        """Where a symbol is to be named; the 8.0 of biases alone leave silence out."""
        return target < self.task.output_size - 1

    @torch.no_grad()
    def errors(self, model: Network, size: int) -> float:
        """Share of cases wrong, or symbols wrong in a sequence."""
        x, target = self.draw(size)
        answers = model(x)
        if self.task.every_step:
            return float((answers.argmax(-1) != target)[self.asked(target)].sum() / size)
        right = (answers + self.mean - target).abs() <= 0.04  # a NaN is not
        return 1 - float(right.float().mean())


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train with momentum 0.9, then with the higher one; score at the end."""
    torch.manual_seed(seed)
    options, problem = settings["training"], Problem(settings["task"], seed)
    model = Network(problem.task, settings["model"], problem.centre)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, options["learning_rate"], 0.9, nesterov=True)
    first: int | None = None
    for update in range(1, options["updates"] + 1):
        if update == options["momentum_from"]:
            optimizer.param_groups[0]["momentum"] = options["momentum"]
        x, target = problem.draw(options["batch"])
        loss = problem.loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % options["check_every"] == 0:
            errors = problem.errors(model, 1000)
            progress(f"{settings['task']}: {update}, loss {loss.item():.4g}, errors {errors:.4g}")
            if first is None and errors < options["solved_below"]:
                first = update
    return {"errors": problem.errors(model, options["test"]), "solved_at": first or float("inf")}


if __name__ == "__main__":
    main(__file__, attempt)
