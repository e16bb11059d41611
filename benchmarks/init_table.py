"""Eight initialisations, ten seeds each: what a look at the gradient in time names, and rules miss.

One forward and backward pass at initialisation, 200 steps, cross-entropy on the last output; the
task needs the first step, so the required lag is 199. Beside our verdict stand three published
rule sets, which read parameter gradients; they are written here from their published thresholds.

    python -m benchmarks.init_table [--json]
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import steadygrad as sg

STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 200, 16, 8, 64, 10
SEEDS = range(10)
SCALE = 0.03  # of the input: small, so that a tanh network's gain decides, not its saturation


class Reader(nn.Module):
    """A recurrent layer and a linear read-out of its last output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rnn = layer
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def gain(value: float) -> Callable[[nn.Module], None]:
    """Make an orthogonal recurrent matrix times ``value``, and no bias: the gain alone decides."""

    def apply(layer: nn.Module) -> None:
        weight = layer.weight_hh_l0
        assert isinstance(weight, Tensor)
        nn.init.orthogonal_(weight, value)
        for bias in (layer.bias_ih_l0, layer.bias_hh_l0):
            assert isinstance(bias, Tensor)
            nn.init.zeros_(bias)

    return apply


def forget_bias(layer: nn.Module) -> None:
    bias = layer.bias_ih_l0
    assert isinstance(bias, Tensor)
    with torch.no_grad():
        bias[HIDDEN : 2 * HIDDEN] = 5.0


def times_30(layer: nn.Module) -> None:
    with torch.no_grad():
        for p in layer.parameters():
            p *= 30


CASES: list[tuple[str, str, Callable[[nn.Module], None] | None, str]] = [
    ("LSTM, default", "LSTM", None, "vanishing"),
    ("tanh RNN, orthogonal x 0.5", "RNN", gain(0.5), "vanishing"),
    ("tanh RNN, orthogonal x 0.9", "RNN", gain(0.9), "vanishing"),
    ("tanh RNN, orthogonal x 1.0", "RNN", gain(1.0), "healthy"),
    ("LSTM, forget bias +5", "LSTM", forget_bias, "healthy"),
    ("tanh RNN, orthogonal x 1.5", "RNN", gain(1.5), "exploding"),
    ("tanh RNN, orthogonal x 3", "RNN", gain(3.0), "exploding"),
    ("LSTM, weights x 30", "LSTM", times_30, "exploding"),
]


@dataclass(frozen=True)
class Row:
    """One initialisation over all seeds."""

    case: str
    layers: str
    expected: str
    named: dict[str, int]
    log10_ratio: float
    sagemaker_vanishing: int
    autotrainer: tuple[int, int]
    deepchecker: tuple[int, int]


def rules(grads: dict[str, Tensor]) -> dict[str, bool]:
    """Published thresholds on the parameter gradients of one batch.

    SageMaker Debugger: mean |g| < 1e-7. AUTOTRAINER: first over last kernel norm below 1e-3 with
    the first below 1e-4, or above 70. TheDeepChecker: mean |g| below 1e-6, or above 1e6.
    """
    kernels = [g for n, g in grads.items() if "weight" in n]
    first, last = float(kernels[0].norm()), float(kernels[-1].norm())
    ratio = first / last if last else math.inf
    means = [float(g.abs().mean()) for g in grads.values()]
    broken = any(not math.isfinite(m) for m in means)
    return {
        "sagemaker": any(m < 1e-7 for m in means),
        "autotrainer vanishing": ratio < 1e-3 and first < 1e-4,
        "autotrainer exploding": ratio > 70 or broken,
        "deepchecker vanishing": any(m < 1e-6 for m in means),
        "deepchecker exploding": any(m > 1e6 for m in means) or broken,
    }


def measure(
    case: str, kind: str, change: Callable[[nn.Module], None] | None, expected: str, room: Any
) -> Row:
    """Diagnose ten networks of one initialisation."""
    named: Counter[str] = Counter()
    fired: Counter[str] = Counter()
    ratios = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        layer = getattr(room, kind)(INPUTS, HIDDEN)
        if change:
            change(layer)
        model = Reader(layer)
        x = SCALE * torch.randn(STEPS, BATCH, INPUTS)
        target = torch.randint(0, CLASSES, (BATCH,))

        def loss(model: nn.Module = model, x: Tensor = x, target: Tensor = target) -> Tensor:
            return nn.functional.cross_entropy(model(x), target)

        found = sg.diagnose(model, loss, lag=STEPS - 1)
        named[found.verdict] += 1
        ratios.append(found.flow["rnn"].by_lag.at(STEPS - 1))
        loss().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        fired.update(name for name, hit in rules(grads).items() if hit)
    return Row(
        case,
        "torch.nn" if room is nn else "steadygrad",
        expected,
        dict(named),
        sorted(ratios)[len(ratios) // 2],
        fired["sagemaker"],
        (fired["autotrainer vanishing"], fired["autotrainer exploding"]),
        (fired["deepchecker vanishing"], fired["deepchecker exploding"]),
    )


def summary(rows: list[Row]) -> dict[str, int]:
    """How many were named right, of the faulty and of the healthy."""
    faulty = [r for r in rows if r.expected != "healthy"]
    healthy = [r for r in rows if r.expected == "healthy"]
    return {
        "faulty": len(SEEDS) * len(faulty),
        "named_right": sum(r.named.get(r.expected, 0) for r in faulty),
        "healthy": len(SEEDS) * len(healthy),
        "accused": sum(len(SEEDS) - r.named.get("healthy", 0) for r in healthy),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    document = {}
    for room, name in ((nn, "torch.nn"), (sg, "steadygrad")):
        rows = []
        for case in CASES:
            rows.append(measure(*case, room))
            print(f"\r{name}: {len(rows)}/{len(CASES)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        document[name] = {"rows": [asdict(r) for r in rows], "summary": summary(rows)}
        if not as_json:
            show(name, rows)
    if as_json:
        print(json.dumps(document))


def show(name: str, rows: list[Row]) -> None:
    print(f"\nlayers of {name}, {len(SEEDS)} seeds each, log10 ratio at lag {STEPS - 1} (median)")
    print(
        f"{'initialisation':<28}{'log10 ratio':>12}  {'verdict':<16}"
        f"{'SageMaker v':>12}{'AUTOTRAINER v/e':>17}{'DeepChecker v/e':>17}"
    )
    for row in rows:
        said = ", ".join(f"{n} {v}" for v, n in sorted(row.named.items(), key=lambda i: -i[1]))
        print(
            f"{row.case:<28}{row.log10_ratio:>12.1f}  {said:<16}{row.sagemaker_vanishing:>12}"
            f"{'{}/{}'.format(*row.autotrainer):>17}{'{}/{}'.format(*row.deepchecker):>17}"
        )
    total = summary(rows)
    print(
        f"named right: {total['named_right']} of {total['faulty']} faulty; "
        f"accused: {total['accused']} of {total['healthy']} healthy"
    )


if __name__ == "__main__":
    main()
