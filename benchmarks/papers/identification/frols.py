"""The peer: polynomial NARX by forward regression (FROLS) of the package sysidentpy."""

import importlib
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks.papers.harness import Settings
from benchmarks.papers.identification.protocol import Simulate, rmse
from steadygrad.errors import InputError
from steadygrad.tasks.system_id import Record


def fit(train: Record, val: Record, settings: Settings) -> tuple[Simulate, float]:
    """Fit for each lag, degree and number of terms; the best simulation is kept.

    Settings: ``lags``, ``degrees``, ``terms``, what to try of each; ``fitted``, how many rows.
    """
    try:
        basis = importlib.import_module("sysidentpy.basis_function")
        selection = importlib.import_module("sysidentpy.model_structure_selection")
    except ImportError:
        raise InputError(
            "sysidentpy is not installed: pip install 'steadygrad[sysid]' (it holds numpy below a"
            " newer version, so give it an environment of its own)"
        ) from None
    u, y = (series.double().numpy()[: settings.get("fitted"), 0] for series in train)
    best, kept = float("inf"), None
    for lag, degree, terms in product(settings["lags"], settings["degrees"], settings["terms"]):
        model = selection.FROLS(
            xlag=lag, ylag=lag, basis_function=basis.Polynomial(degree=degree),
            order_selection=False, n_terms=terms,
        )  # fmt: skip
        model.fit(X=u, y=y)

        def simulate(inputs: Tensor, begun: Tensor, model: Any = model) -> Tensor:
            at = len(begun) - model.max_lag
            found = model.predict(
                X=inputs.double().numpy()[at:, 0], y=begun.double().numpy()[at:, 0]
            )
            return torch.from_numpy(found[model.max_lag :])[:, None]

        error = rmse(simulate, val, settings["begin"])
        if kept is None or error < best:
            best, kept = error, simulate
    assert kept is not None
    return kept, best
