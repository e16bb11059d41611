"""NARX against LSTM in free run: cascaded tanks and Silverbox.

Needs cascaded_tanks/dataBenchmark.csv and silverbox/SNLS80mV.csv in the folder STEADYGRAD_DATA.

python -m benchmarks.papers.narx [--help]
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.papers import harness
from benchmarks.papers.harness import Settings
from benchmarks.papers.narx import linear, lstm
from benchmarks.papers.narx.lstm import Record
from steadygrad.nn import NARX, fit_narx
from steadygrad.tasks import SystemID


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Fit one model, and let it simulate the test record on its own outputs."""
    torch.manual_seed(seed)
    system = settings["systems"][settings["system"]]
    task = SystemID(system=settings["system"], window=system["fitted"], washout=0)
    fitted, val, test = (record(task, split) for split in ("train", "val", "test"))
    run = simulate(settings, system, fitted, val, test)
    begin = system["begin"]
    error = (run[-(len(test[1]) - begin) :] - test[1][begin:, 0, 0]).square().mean().sqrt()
    return {"rmse": round(float(error) * task.unit * system["scale"], 4)}


def record(task: SystemID, split: Any) -> Record:
    """Input and output of a part, from its beginning."""
    first = task.batches(split, 1)[0]
    return first.inputs, first.targets


def simulate(
    settings: Settings, system: Settings, fitted: Record, val: Record, test: Record
) -> Tensor:
    """The test record's outputs after its first ``begin`` steps, at least."""
    begin, method = system["begin"], settings["method"]
    if method == "LSTM":
        model = lstm.fit(fitted, val, settings["lstm"], begin)
        with torch.no_grad():
            return model(*test)[:, 0, 0]
    taps = tuple(system["input_delays"]), tuple(system["output_delays"])
    fitted, test = ((u.double(), y.double()) for u, y in (fitted, test))
    if method == "linear ARX":
        (u, y), (u_test, y_test) = ((u[:, 0, 0], y[:, 0, 0]) for u, y in (fitted, test))
        return linear.free_run(linear.fit(u, y, taps), u_test, y_test[:begin], taps)
    options = settings["narx"]
    net = NARX(1, 1, options["hidden"], *taps, dtype=torch.float64)
    fit_narx(net, *fitted, steps=options["open_steps"])
    if method == "NARX, closed loop":
        horizon = options["horizon"]
        fit_narx(net, *fitted, loop="closed", steps=options["closed_steps"], horizon=horizon)
    u, y = test
    with torch.no_grad():
        return net.free_run(u[begin:], net.delays(u[:begin], y[:begin]))[0][:, 0, 0]


if __name__ == "__main__":
    harness.main(__file__, attempt)
