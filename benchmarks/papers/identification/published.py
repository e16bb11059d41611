"""Score the published predictions again, over the samples that the benchmark counts.

``python -m benchmarks.papers.identification.published FOLDER``, FOLDER a checkout of the
repository MDCHAMP/nonlinear_baselines, which keeps every prediction behind the tables of
arXiv 2405.10779. Writes ``published.json``: for each test part and method the RMSE as published,
over all steps that the method predicted, and from the benchmark's initial window on, which is how
ours are scored. That the first is found again from our copy of the data shows that the parts are
the same. Needs the data in the folder STEADYGRAD_DATA.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.tasks import SystemID
from steadygrad.tasks.system_id import System

FILE = Path(__file__).with_name("published.json")
PARTS: dict[str, list[System]] = {
    "CT": ["tanks"],
    "SB": ["silverbox-multisine", "silverbox", "silverbox-no-extrapolation"],
}
NETWORKS = ("RNN", "LSTM", "OLSTM", "GRU")
MPO = ("MPO", "MPO_rmse")  # model-predicted output: free run
REGRESSIONS = {"ARX": "linear ARX", "PNARX": "polynomial NARX", "GPNARX": "GP-NARX"}
BEGIN = 50  # steps of the initial window, in each part
Scores = dict[str, float]


def scored(predicted: list[float], told: float, y: Tensor) -> Scores:
    """A prediction of the last steps of ``y``: its RMSE as published, and after `BEGIN` steps.

    Raises:
        InputError: The published one is not found again.
    """
    run = torch.tensor(predicted, dtype=torch.float64).ravel()
    first = len(y) - len(run)
    error = run - y[first:]
    again = float(error.square().mean().sqrt())
    if abs(again - told) > 1e-4 * told:
        raise InputError(f"published RMSE {told}, but {again} from the published predictions")
    after = float(error[BEGIN - first :].square().mean().sqrt())
    return {"published": round(told, 7), "after_window": round(after, 7), "first": first}


def read(folder: Path) -> dict[str, dict[str, Scores]]:
    """Scores by system and method. A result file that the checkout lacks is left out, and said."""
    found: dict[str, dict[str, Scores]] = {}
    for short, systems in PARTS.items():
        parts = [SystemID(system=s).record("test", scaled=False)[1].ravel() for s in systems]
        for method, tests in _methods(folder, short).items():
            for k, (system, y) in enumerate(zip(systems, parts, strict=True), 1):
                if (test := tests.get(f"test_{k}")) is not None:
                    run, told = (test[n] for n in (("yhat", "rmse") if "yhat" in test else MPO))
                    found.setdefault(system, {})[method] = scored(run, told, y)
    return found


def _methods(folder: Path, short: str) -> dict[str, Any]:
    files = {name: folder / "data_NN" / f"{short}_{name}_NN.json" for name in NETWORKS}
    found = {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}
    regressions = folder / "data_AR" / f"{short}_AR.json"
    if regressions.exists():
        given = json.loads(regressions.read_text())
        found |= {told: given[name] for name, told in REGRESSIONS.items() if name in given}
    else:
        print(f"{regressions}: not there, so ARX and NARX are left out", file=sys.stderr)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    text = json.dumps(read(Path(sys.argv[1])), indent=2)
    FILE.write_text(text + "\n", encoding="utf-8")
    print(text)
