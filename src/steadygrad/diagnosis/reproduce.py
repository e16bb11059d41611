"""A broken step run again: the same batch, weights and random state, and the same fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.diagnosis.black_box import FIRST, FORMAT
from steadygrad.diagnosis.nested import put_together, tensors_of
from steadygrad.diagnosis.nonfinite import locate
from steadygrad.errors import InputError
from steadygrad.faults import Finding
from steadygrad.flow.live import LiveCapture
from steadygrad.plain import Misfit, fit
from steadygrad.sealed import Sealed, unsealed

PLACE = ("tensor", "time_step", "sequence", "layer_index", "reverse")


_AGAIN = "give the file that a watch saved when a step was not finite"


@dataclass(frozen=True)
class StepFacts:
    """Everything in the file of a step but its tensors.

    Attributes:
        given: How the arguments are built from tensors; see `nested`.
        training: Names of the modules that were in training mode.
        results_finite: For each result of the model, whether it was finite.
        finding: What was found when the step was saved.
        format: Of the file.
    """

    given: Mapping[str, Any]
    training: tuple[str, ...]
    results_finite: tuple[bool, ...]
    finding: Finding
    format: str


@dataclass(frozen=True)
class Step:
    """A step as it was saved.

    Attributes:
        saved: ``given/<n>``, ``model/<name>``, ``gradient/<n>`` and ``random``.
        facts: The rest.
    """

    saved: Sealed
    facts: StepFacts

    @property
    def finding(self) -> Finding:
        """What was found when the step was saved."""
        return self.facts.finding

    def arguments(self) -> tuple[Any, Any]:
        """What the model was called with: a sequence and a mapping."""
        given = self.saved.group("given")
        args, kwargs = put_together(self.facts.given, [given[str(i)] for i in range(len(given))])
        return args, kwargs


@dataclass(frozen=True)
class Reproduced:
    """What a step did the second time.

    Attributes:
        before: The finding of the training.
        now: The finding of the replay; None if every gradient was finite.
        same: Whether both name the same place: layer, gate, tensor, time step and sequence.
    """

    before: Finding
    now: Finding | None
    same: bool


def read_step(path: Path) -> Step:
    """Read a saved step.

    Raises:
        ValueError: The file is damaged, or holds something else.
    """
    saved = unsealed(path, FORMAT, _AGAIN, or_without_checksum=FIRST)
    try:
        return Step(saved, fit(StepFacts, saved.facts, "step"))
    except Misfit as error:
        raise InputError(f"{path}: is no saved step ({error}); {_AGAIN}") from None


def reproduce(path: str | Path, model: nn.Module) -> Reproduced:
    """Run a saved step again, forward and back, and look for the first bad place.

    The model gets the weights of that step. Random draws of the CPU's generator repeat; so does
    all else that depends on weights and arguments alone.

    Args:
        path: The file that a watch saved, ``nonfinite-<step>.safetensors``.
        model: The model of the training, newly made.

    Raises:
        ValueError: The file is no saved step, or the model is another one.
    """
    path = Path(path)
    step = read_step(path)
    _load(model, step, path)
    with LiveCapture(model) as capture, torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            _run_again(model, step)
        except (ValueError, TypeError, RuntimeError, LookupError) as error:
            # What torch raises where shapes, types or names do not fit, and a missing part.
            told = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: cannot be run again with this model ({told})") from error
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        now = None
        if not all(bool(torch.isfinite(g).all()) for g in grads):
            now = locate(model, capture.calls, capture.gradients, step.finding.step or 0, None)
    return Reproduced(step.finding, now, now is not None and _place(now) == _place(step.finding))


def _run_again(model: nn.Module, step: Step) -> None:
    """Call the model as it was called then, and send back what came back then."""
    args, kwargs = step.arguments()
    gradients = {int(i): g for i, g in step.saved.group("gradient").items()}
    torch.set_rng_state(step.saved.tensors["random"])
    results = tensors_of(model(*args, **kwargs))
    was_finite = step.facts.results_finite
    pairs = [
        (results[i], g if was_finite[i] else _sent_back(results[i], g))
        for i, g in sorted(gradients.items())
        if i < len(results)
    ]
    torch.autograd.backward([r for r, _ in pairs], [g for _, g in pairs])


def _sent_back(result: Tensor, gradient: Tensor) -> Tensor:
    """What to send back from a result that was not finite in the training.

    If it is finite now, the gradient of then says nothing of the model of now: ones replace it.
    """
    return torch.ones_like(gradient) if bool(torch.isfinite(result).all()) else gradient


def _load(model: nn.Module, step: Step, path: Path) -> None:
    try:
        model.load_state_dict(step.saved.group("model"))
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"{path}: is of another model: {first}") from None
    training = set(step.facts.training)
    for name, module in model.named_modules():
        module.training = name in training
    model.zero_grad()


def _place(finding: Finding) -> tuple[Any, ...]:
    return finding.layer, finding.gate, *(finding.evidence.get(key) for key in PLACE)
