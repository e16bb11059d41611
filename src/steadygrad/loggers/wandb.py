"""Weights & Biases: scalars, the gradient by time step as an image, findings as alerts."""

import importlib
from collections.abc import Mapping
from typing import Any, final

from numpy.typing import ArrayLike

from steadygrad.loggers.base import PREFIX, Logger, Maps


@final
class WandbLogger(Logger):
    """Logs to the run started by ``wandb.init``, or to a given one.

    The training step is logged as ``gradient/step`` and defined as the axis of all ``gradient/``
    metrics, so that the step counter of your own ``wandb.log`` calls is not affected.

    Raises:
        RuntimeError: No run was started.
    """

    def __init__(self, run: Any = None) -> None:
        self._wandb: Any = importlib.import_module("wandb")
        self._run = run if run is not None else self._wandb.run
        if self._run is None:
            raise RuntimeError("log='wandb': call wandb.init(...) before sg.watch(...)")
        self._run.define_metric(f"{PREFIX}/step")
        self._run.define_metric(f"{PREFIX}/*", step_metric=f"{PREFIX}/step")
        self._maps = Maps()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        self._log(step, {name: float(value) for name, value in values.items()})

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        drawn = self._maps.add(quantity, layer, values, state)
        if drawn is not None:
            name = drawn[0].removeprefix(f"{PREFIX}/")
            self._log(step, {name: self._wandb.Image(drawn[1])})

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        text = f"{finding.get('fault')} in {finding.get('layer')}: {finding.get('text')}"
        self._log(step, {"finding": text})
        self._run.alert(title=f"steadygrad: {finding.get('fault')}", text=text)

    def note(self, key: str, value: Any) -> None:
        if key == "verdict":
            self._run.summary[f"{PREFIX}/verdict"] = value

    def _log(self, step: int, values: dict[str, Any]) -> None:
        self._run.log({f"{PREFIX}/step": step} | {f"{PREFIX}/{k}": v for k, v in values.items()})
