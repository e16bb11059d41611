"""From a recipe to a model: healthy by what is known today, then the change that makes it ill."""

import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.faults.recipe import Recipe
from steadygrad.cells import parse as parse_cell
from steadygrad.tasks import Benchmark

HIDDEN = 32
# The gate that keeps the memory, and the sign with which its bias does.
KEEPS = {
    "lstm": ("forget", 1.0),
    "lstm-peephole": ("forget", 1.0),
    "lstm-coupled": ("input", -1.0),
    "lstm-layer-norm": ("forget", 1.0),
    "gru": ("update", 1.0),
    "gru-original": ("update", 1.0),
    "mgu": ("forget", -1.0),
    "mut1": ("update", -1.0),
    "mut2": ("update", -1.0),
    "mut3": ("update", -1.0),
    "lstm-greff": ("forget", 1.0),
    "slstm": ("forget", 1.0),
}


class Network(nn.Module):
    """Recurrent layers and a linear head.

    Shapes:
        ``x (T, B, I)`` to ``(T, B, O)`` where the task asks at every step, else ``(B, O)``; with a
        likelihood the head gives a mean and the logarithm of a scale.
    """

    def __init__(self, task: Benchmark, recipe: Recipe) -> None:
        super().__init__()
        self.every_step = task.every_step
        self.recurrent = sg.Recurrent(
            parse_cell(recipe.cell),
            task.input_size,
            HIDDEN,
            recipe.layers,
            truncate=recipe.truncate or None,
        )
        self.head = nn.Linear(HIDDEN, task.output_size * (1 + (recipe.likelihood != "none")))
        if not recipe.uniform:
            start_well(self.recurrent, recipe)
        make_ill(self.recurrent, recipe)

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.recurrent(x)
        h = last if isinstance(last, Tensor) else last[0]
        return self.head(states if self.every_step else h[-1])


@torch.no_grad()
def start_well(layer: sg.Recurrent, recipe: Recipe) -> None:
    """Orthogonal recurrent blocks, zero biases, and a gate that keeps."""
    for index in range(layer.num_layers):
        weight = dict(layer.named_parameters()).get(f"weight_hh_l{index}")
        if weight is not None and weight.shape[0] == len(layer.cell.recurrent) * HIDDEN:
            gain = recipe.gain if recipe.where in (-1, index) else 1.0
            sg.init.orthogonal_(weight, len(layer.cell.recurrent), gain)
        for name, parameter in layer.named_parameters():
            if name in (f"bias_ih_l{index}", f"bias_hh_l{index}"):
                nn.init.zeros_(parameter)
        if keeps := KEEPS.get(layer.cell.name):
            gate, sign = keeps
            keep = recipe.keep if recipe.where in (-1, index) else 1.0
            bias = layer.get_parameter(f"bias_ih_l{index}")
            gates = layer.cell.gates
            sg.init.gate_bias_(bias, len(gates), gates.index(gate), sign * keep)


@torch.no_grad()
def make_ill(layer: sg.Recurrent, recipe: Recipe) -> None:
    """Shift the bias of one gate at a share of its units."""
    if not recipe.shifted:
        return
    for index in range(layer.num_layers):
        if recipe.where not in (-1, index):
            continue
        bias = layer.get_parameter(f"bias_ih_l{index}").view(len(layer.cell.gates), HIDDEN)
        units = torch.arange(HIDDEN) < round(recipe.share * HIDDEN)
        # A candidate may be stuck at either end: half of its units at each.
        sign = torch.ones(HIDDEN)
        if recipe.shifted == "candidate" and recipe.kind == "saturated":
            sign[::2] = -1
        shift = units * sign * recipe.shift
        if (threshold := getattr(layer, f"mod_bias_l{index}", None)) is not None:
            threshold += shift  # of modReLU, whose argument counts by its size
        else:
            bias[layer.cell.gates.index(recipe.shifted)] += shift
