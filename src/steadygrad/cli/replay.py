"""``steadygrad replay FILE``: repeat a step that was not finite."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from steadygrad.diagnosis.reproduce import Reproduced


def replay(
    step: Path, model: str | None = None, data: Path | None = None, json: bool = False
) -> int:
    """Run a saved step again: the same batch, weights and random state.

    Exit code 1: it is not finite again; 0: it is finite now, as after a repair.

    Args:
        step: The saved file, nonfinite-<step>.safetensors; or the folder of a run, for the one in
            it.
        model: module:function or file.py:function that returns the model, or (model, loss_fn);
            not needed for a run of steadygrad train.
        data: The data of a run of steadygrad train, if it is not where it was.
        json: Print one JSON document and nothing else.
    """
    from steadygrad.diagnosis.reproduce import reproduce

    path = _file(step)
    try:
        found = reproduce(path, _model(path, model, data))
    except ValueError as error:
        raise InputError(str(error)) from None
    if json:
        document = {
            "step": str(path),
            "reproduced": found.same,
            "before": found.before.to_record(),
            "now": None if found.now is None else found.now.to_record(),
        }
        print(json_format.dumps(plain(document), indent=2, allow_nan=False))
    else:
        print("\n".join(_lines(found)))
    return int(found.now is not None)


def _file(step: Path) -> Path:
    if not step.is_dir():
        if not step.exists():
            raise InputError(f"{step}: no such file")
        return step
    files = sorted(step.glob("nonfinite-*.safetensors"))
    if not files:
        raise InputError(
            f"{step}: holds no nonfinite-<step>.safetensors: no step was non-finite there"
        )
    return files[0]


def _model(path: Path, model: str | None, data: Path | None) -> "nn.Module":
    from torch import nn

    from steadygrad.cli.target import call
    from steadygrad.train import reload

    if model is None:
        return reload(path, data).model
    made = call(model)
    made = made[0] if isinstance(made, tuple) and made else made
    if not isinstance(made, nn.Module):
        raise InputError(f"--model {model}: expected a function that returns a model, got {made!r}")
    return made


def _lines(found: "Reproduced") -> list[str]:
    lines = [f"then: {found.before.text}"]
    if found.now is None:
        return [*lines, "now:  every gradient is finite"]
    return [
        *lines,
        f"now:  {found.now.text}",
        f"reproduced: {'yes' if found.same else 'elsewhere'}",
    ]
