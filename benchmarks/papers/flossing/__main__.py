"""Delayed XOR with and without gradient flossing: exponents before and after, accuracy.

Every finished run is appended to ``runs.jsonl`` beside this file; a run that stands there is not
done again. ``--fresh`` starts over, ``--table`` prints what is there.

    python -m benchmarks.papers.flossing [--fresh] [--table] [--json]
"""

import argparse
import json
import statistics
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.flow import lyapunov_exponents
from steadygrad.remedies import Applied, Flossing
from steadygrad.tasks import DelayedXOR

HERE = Path(__file__).parent
CONFIG: dict[str, Any] = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
RUNS = HERE / "runs.jsonl"


class Network(nn.Module):
    """A tanh recurrence at the edge of chaos and one logit."""

    def __init__(self) -> None:
        super().__init__()
        size, bias = CONFIG["model"]["units"], CONFIG["model"]["bias"]
        self.rnn = sg.RNN(1, size)
        self.head = nn.Linear(size, 1)
        std = CONFIG["model"]["gain"] / size**0.5
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


def exponents(model: Network, task: DelayedXOR, source: torch.Generator) -> list[float]:
    """The largest exponent and the last of those that are flossed, over one batch."""
    options = CONFIG["flossing"]
    x, _ = task.draw(CONFIG["task"]["batch"], source)
    with torch.no_grad():
        found = lyapunov_exponents(model.rnn, x, k=options["exponents"], discard=options["discard"])
    return [round(found[0].item(), 3), round(found[-1].item(), 3)]


def attempt(delay: int, flossed: bool, seed: int) -> dict[str, Any]:
    """Train one network, and look at its exponents before, after the first flossing, and after."""
    torch.manual_seed(seed)
    source = torch.Generator().manual_seed(seed)
    task, model = DelayedXOR(delay, CONFIG["task"]["length"]), Network()
    start = exponents(model, task, source)
    applied = Flossing(**CONFIG["flossing"]).apply(model) if flossed else Applied()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, CONFIG["training"]["learning_rate"])
    began, ready = time.perf_counter(), start
    for update in range(CONFIG["task"]["updates"]):
        loss, _ = losses(model, task, CONFIG["task"]["batch"], source)
        if update == 0:
            ready = exponents(model, task, source)
        optimizer.zero_grad()
        (loss + applied.penalty(loss)).backward()
        for parameter in parameters:
            nn.utils.clip_grad_norm_([parameter], CONFIG["training"]["clip"])
        optimizer.step()
        name = "with" if flossed else "without"
        print(f"\rd={delay} {name} flossing, seed {seed}: {update + 1}", end="", file=sys.stderr)
    print(file=sys.stderr)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        _, right = losses(model.eval(), task, CONFIG["task"]["test"], source)
    return {
        "delay": delay,
        "flossed": flossed,
        "seed": seed,
        "accuracy": round(100 * right.item(), 2),
        "exponents_initial": start,
        "exponents_flossed": ready,
        "exponents_trained": exponents(model, task, source),
        "seconds": round(seconds, 1),
    }


def done() -> list[dict[str, Any]]:
    if not RUNS.exists():
        return []
    return [json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()]


def measure() -> None:
    """Do every run that is not on file yet."""
    finished = {(r["delay"], r["flossed"], r["seed"]) for r in done()}
    for delay in CONFIG["task"]["delays"]:
        for seed in range(CONFIG["training"]["seeds"]):
            for flossed in (True, False):
                if (delay, flossed, seed) not in finished:
                    found = attempt(delay, flossed, seed)
                    with RUNS.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")


def table(runs: list[dict[str, Any]]) -> str:
    """Lay out accuracy and exponents, with and without."""
    k = CONFIG["flossing"]["exponents"]
    lines = [
        f"Delayed XOR, {CONFIG['task']['length']} steps, {CONFIG['model']['units']} tanh units, "
        f"{CONFIG['task']['updates']} updates of batch {CONFIG['task']['batch']}; accuracy on "
        f"{CONFIG['task']['test']} fresh sequences (chance 50 %);",
        f"exponents 1 and {k} in nats per step, mean over seeds.",
        "",
        f"{'delay':>5}  {'flossing':<9}{'accuracy %':>11}{'range':>16}"
        f"{'initial':>17}{'before update 1':>18}{'trained':>17}{'seconds':>9}",
    ]
    for delay in CONFIG["task"]["delays"]:
        for flossed in (True, False):
            rows = [r for r in runs if (r["delay"], r["flossed"]) == (delay, flossed)]
            if not rows:
                continue
            right = [r["accuracy"] for r in rows]
            cells = [
                "{:.2f}, {:.2f}".format(*(statistics.mean(v) for v in zip(*column, strict=True)))
                for column in (
                    [r[f"exponents_{when}"] for r in rows]
                    for when in ("initial", "flossed", "trained")
                )
            ]
            lines.append(
                f"{delay:>5}  {'yes' if flossed else 'no':<9}{statistics.mean(right):>11.2f}"
                f"{f'{min(right):.1f} to {max(right):.1f}':>16}"
                f"{cells[0]:>17}{cells[1]:>18}{cells[2]:>17}"
                f"{statistics.mean(r['seconds'] for r in rows):>9.0f}"
            )
    return "\n".join([*lines, "", f"{CONFIG['training']['seeds']} seeds a row"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="forget what is on file")
    parser.add_argument("--table", action="store_true", help="only print what is on file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.fresh:
        RUNS.unlink(missing_ok=True)
    if not given.table:
        measure()
    print(json.dumps(done()) if given.json else table(done()))


if __name__ == "__main__":
    main()
