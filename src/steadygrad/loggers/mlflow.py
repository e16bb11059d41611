"""MLflow: metrics, the verdict as a tag, findings and the gradient by time step as artifacts."""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, final

from numpy.typing import ArrayLike

from steadygrad.loggers.base import PREFIX, Logger, Maps


@final
class MLflowLogger(Logger):
    """Logs to the active run of MLflow, which is started if there is none.

    The images are written when the watch ends, ``gradient/LAYER/STATE.png``; this needs Pillow,
    which ``mlflow-skinny`` does not bring.

    Args:
        run_id: Id of the run to write to; the active one if not given.
    """

    def __init__(self, run_id: str | None = None) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        self._mlflow = mlflow
        self._is_ours = run_id is None and mlflow.active_run() is None
        if run_id is None:
            run_id = (mlflow.active_run() or mlflow.start_run()).info.run_id
        self._run_id = run_id
        self._findings: list[str] = []
        self._maps = Maps()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        metrics = {f"{PREFIX}/{name}": float(value) for name, value in values.items()}
        self._mlflow.log_metrics(metrics, step=step, run_id=self._run_id)

    def row(
        self, step: int, quantity: str, layer: str, values: ArrayLike, *, state: str = "h"
    ) -> None:
        self._maps.add(quantity, layer, values, state)

    def finding(self, step: int, finding: Mapping[str, Any]) -> None:
        fault, layer = finding.get("fault"), finding.get("layer")
        self._findings.append(f"step {step}: {fault} in {layer}: {finding.get('text')}")
        text = "\n".join(self._findings)
        self._mlflow.log_text(text, "steadygrad-findings.txt", run_id=self._run_id)

    def note(self, key: str, value: Any) -> None:
        if key == "verdict":
            client = self._mlflow.MlflowClient()
            client.set_tag(self._run_id, f"{PREFIX}.verdict", value)

    def close(self) -> None:
        if importlib.util.find_spec("PIL") is not None:
            client = self._mlflow.MlflowClient()
            for name, picture in self._maps.latest.items():
                client.log_image(self._run_id, picture, f"{name}.png")
        if self._is_ours:
            self._mlflow.end_run()
