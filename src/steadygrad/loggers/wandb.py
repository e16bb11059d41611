"""Weights & Biases: scalars, the gradient by time step as an image, findings as alerts."""

import importlib
from collections.abc import Mapping
from typing import Any, final

from numpy.typing import ArrayLike

from steadygrad.loggers.base import PREFIX, Maps, RowLogger


@final
class WandbLogger(RowLogger):
    """Logs to the run started by ``wandb.init``, or to a given one.

    The training step is logged as ``gradient/step`` and defined as the axis of all ``gradient/``
    metrics. Each training step is one row, which counts as one call of ``wandb.log``: a later
    ``wandb.log(..., step=n)`` of yours has to have an ``n`` of at least that count, or W&B drops
    it. The number of the training step is; that of an epoch is not: see ``rows``.

    Args:
        run: The run; that of ``wandb.init`` if not given.
        rows: Whether to begin rows. If not, the numbers go into the row that your own next
            ``wandb.log`` ends, and of several training steps before it the last one's are kept.

    Raises:
        RuntimeError: No run was started.
    """

    def __init__(self, run: Any = None, *, rows: bool = True) -> None:
        super().__init__()
        self._wandb: Any = importlib.import_module("wandb")
        self._run = run if run is not None else self._wandb.run
        if self._run is None:
            raise RuntimeError("log='wandb': call wandb.init(...) before sg.watch(...)")
        self._run.define_metric(f"{PREFIX}/step")
        self._run.define_metric(f"{PREFIX}/*", step_metric=f"{PREFIX}/step")
        self._begins_rows = rows
        self._maps = Maps()

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        drawn = self._maps.add(quantity, layer, values, state)
        if drawn is not None:
            self._put(step, {drawn[0].removeprefix(f"{PREFIX}/"): self._wandb.Image(drawn[1])})

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        super().finding(step, finding)
        fault = finding.get("fault")
        text = f"{fault} in {finding.get('layer')}: {finding.get('text')}"
        self._run.alert(title=f"steadygrad: {fault}", text=text)

    def note(self, key: str, value: Any) -> None:
        if key == "verdict":
            self._run.summary[f"{PREFIX}/verdict"] = value

    def _send(self, row: dict[str, Any]) -> None:
        # A watch may be closed after `wandb.finish`, where `log` raises.
        if not getattr(self._run, "_is_finished", False):
            self._run.log(row, commit=self._begins_rows)
