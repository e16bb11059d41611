"""The file of a trained model: its weights and everything needed to use them."""

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from steadygrad import files
from steadygrad._version import __version__
from steadygrad.errors import InputError
from steadygrad.plain import Misfit, fit
from steadygrad.sealed import sealed, unsealed
from steadygrad.tasks import ForecastSpec
from steadygrad.train.build_model import remedied_model
from steadygrad.train.config import TrainConfig
from steadygrad.train.model import Ends, SequenceModel

FORMAT = "steadygrad model 1"
_AGAIN = "train it again with --overwrite"


@dataclass(frozen=True)
class ModelFacts:
    """Everything in the file of a model but its weights.

    Attributes:
        format: Of the file.
        file: Name of the file that it was trained on.
        options: Options of the training, without paths and length.
        ends: Inputs and outputs of the model.
        data: What the model must know about its data, with the kind.
        intervals: Widths of prediction intervals, if it forecasts.
        status: How the training ended.
        versions: Versions of the libraries used.
    """

    file: str
    options: Mapping[str, Any]
    ends: Ends
    data: Mapping[str, Any] | None
    intervals: Mapping[str, Any] | None = None
    status: Literal["finished", "interrupted", "diverged"] = "finished"
    versions: Mapping[str, str] = field(default_factory=dict)
    format: str = FORMAT


def facts_about(
    config: TrainConfig,
    ends: Ends,
    data: Mapping[str, Any] | None,
    intervals: Mapping[str, Any] | None,
    status: Literal["finished", "interrupted", "diverged"],
) -> dict[str, Any]:
    """Return the facts of a model as JSON values.

    Args:
        config: Options of the training.
        ends: Inputs and outputs.
        data: Specification of the data.
        intervals: Those of a forecast.
        status: How the training ended.
    """
    return {
        "format": FORMAT,
        "file": config.file.name,
        "options": config.fixed(),
        "ends": vars(ends),
        "data": data,
        "intervals": intervals,
        "status": status,
        "versions": {
            "steadygrad": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def write_model(path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the file of a model atomically."""
    files.replace(path, sealed(weights, facts))


def read_model(path: Path) -> tuple[SequenceModel, ModelFacts]:
    """Rebuild the model from its file, in evaluation mode.

    Args:
        path: The folder of a run, its ``model.safetensors``, or another file of its folder.

    Raises:
        InputError: No model there, an older version, a damaged file, or a user's own cell that is
            not found here.
    """
    where = _model_of(path)
    saved = unsealed(where, FORMAT, _AGAIN, or_without_checksum=None)
    try:
        facts = fit(ModelFacts, saved.facts, "model")
        config = fit(TrainConfig, {**facts.options, "file": facts.file}, "options")
        with torch.random.fork_rng(devices=[]):
            data = facts.data or {}
            spec = None
            if data.get("kind") == "forecast":
                spec = ForecastSpec.of({k: v for k, v in data.items() if k != "kind"})
            model, _ = remedied_model(config, facts.ends, torch.device("cpu"), spec=spec)
        model.load_state_dict(dict(saved.tensors))
    except (Misfit, KeyError, TypeError) as error:
        raise InputError(f"{where}: is of another version ({error}); {_AGAIN}") from None
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:300]
        raise InputError(f"{where}: its model cannot be built here ({told})") from None
    return model.eval(), facts


def _model_of(path: Path) -> Path:
    folder = path if path.is_dir() else path.parent
    found = path if path.suffix == ".safetensors" else folder / "model.safetensors"
    if not path.exists():
        raise InputError(f"{path}: no such run; give the folder of a run of steadygrad train")
    if not found.exists():
        what = "has not come to its end" if (folder / "run.db").exists() else "is no run"
        raise InputError(f"{folder}: holds no {found.name}: it {what}; train it first")
    if _is_old(found):
        raise InputError(
            f"{found}: holds weights alone, from a version that did not store their data's "
            f"specification; {_AGAIN}"
        )
    return found


def _is_old(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096)
    return re.search(rb'"steadygrad"\s*:\s*"weights"', start) is not None
