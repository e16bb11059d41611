"""NARX on a heat exchanger and an electronic oscillator: one step ahead, and running free.

NRMSE (error over standard deviation of the output) on data that were not fitted, beside a linear
ARX model with the same delays. In free run a model sees its own outputs only.

STEADYGRAD_DATA=DIR python examples/narx_free_run.py [--steps 40] [--test-steps 1000000]
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from steadygrad.nn import NARX, fit_narx


def exchanger() -> tuple[Tensor, Tensor, int, tuple[int, ...], tuple[int, ...]]:
    """DaISy exchanger: flow to outlet temperature; the first 3000 samples are fitted."""
    path = Path(os.environ["STEADYGRAD_DATA"], "daisy", "csv", "exchanger.csv")
    table = torch.as_tensor(np.loadtxt(path, delimiter=",", skiprows=1))
    return table[:, 1], table[:, 2], 3000, (1, 2, 3, 4), (1, 2)


def silverbox() -> tuple[Tensor, Tensor, int, tuple[int, ...], tuple[int, ...]]:
    """Silverbox: tested on the growing 'arrow' at its start, fitted on 20,000 samples after it."""
    path = Path(os.environ["STEADYGRAD_DATA"], "silverbox", "SNLS80mV.csv")
    table = torch.as_tensor(np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1)))
    order = torch.cat([table[40_650:60_650], table[:40_650]])
    return order[:, 0], order[:, 1], 20_000, (0, 1, 2), (1, 2)


def nrmse(predicted: Tensor, true: Tensor) -> float:
    """Root mean squared error over the standard deviation."""
    return float((predicted - true).square().mean().sqrt() / true.std())


def linear_arx(
    u: Tensor, y: Tensor, fitted: int, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> tuple[float, float]:
    """NRMSE of least squares on the same taps: one step ahead, and free."""
    first = max(inputs + outputs)
    taps = [y[first - k : len(y) - k] for k in outputs] + [
        u[first - k : len(u) - k] for k in inputs
    ]
    x = torch.stack([*taps, torch.ones(len(y) - first)], 1)
    weight = torch.linalg.lstsq(x[: fitted - first], y[first:fitted, None]).solution[:, 0]
    ahead = x[fitted - first :] @ weight
    run, w, us = y[:fitted].tolist(), weight.tolist(), u.tolist()
    for t in range(fitted, len(y)):
        seen = [run[t - k] for k in outputs] + [us[t - k] for k in inputs] + [1.0]
        run.append(sum(a * b for a, b in zip(w, seen, strict=True)))
    return nrmse(ahead, y[fitted:]), nrmse(torch.tensor(run[fitted:]), y[fitted:])


def main() -> None:
    """Fit, close the loop, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--test-steps", type=int, default=1_000_000)
    options = parser.parse_args()
    for load in (exchanger, silverbox):
        u, y, fitted, inputs, outputs = load()
        u, y = u[: fitted + options.test_steps], y[: fitted + options.test_steps]
        u, y = ((s - s[:fitted].mean()) / s[:fitted].std() for s in (u, y))
        torch.manual_seed(0)
        net = NARX(1, 1, 10, inputs, outputs, dtype=torch.float64)
        u3, y3 = u[:, None, None], y[:, None, None]
        rows = [("linear ARX", linear_arx(u, y, fitted, inputs, outputs))]
        for loop in ("open", "closed"):
            fit_narx(net, u3[:fitted], y3[:fitted], loop=loop, steps=options.steps, horizon=200)
            with torch.no_grad():
                _, delays = net(u3[:fitted], y3[:fitted])  # where the open loop ended
                ahead = net(u3[fitted:], y3[fitted:], delays)[0][:, 0, 0]
                free = net.free_run(u3[fitted:], delays)[0][:, 0, 0]
            scores = nrmse(ahead, y[fitted:]), nrmse(free, y[fitted:])
            rows.append((f"NARX, fitted {loop}", scores))
        print(f"{load.__name__}, {len(y) - fitted} test steps: NRMSE one step ahead, free run")
        for name, (ahead, free) in rows:
            print(f"  {name:<20} {ahead:9.4f} {free:9.4f}")


if __name__ == "__main__":
    main()
