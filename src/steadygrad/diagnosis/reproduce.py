"""A broken step run again: the same batch, weights and random state, and the same fault."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from steadygrad.diagnosis.black_box import FORMAT, KEY
from steadygrad.diagnosis.nested import put_together, tensors_of
from steadygrad.diagnosis.nonfinite import locate
from steadygrad.faults import Finding
from steadygrad.flow.live import LiveCapture

PLACE = ("tensor", "time_step", "sequence", "layer_index", "reverse")


@dataclass(frozen=True)
class Step:
    """A step as it was saved.

    Attributes:
        tensors: ``given/<n>``, ``model/<name>``, ``gradient/<n>`` and ``random``.
        facts: How the arguments were built, which modules trained, and what was found.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def finding(self) -> Finding:
        """What was found when the step was saved."""
        return Finding(**self.facts["finding"])

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors below ``name/``, by the rest of their names."""
        start = f"{name}/"
        return {k.removeprefix(start): t for k, t in self.tensors.items() if k.startswith(start)}


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
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is truncated or damaged, or no safetensors ({error})") from None
    if facts.get("format") != FORMAT:
        raise ValueError(
            f"{path}: holds safetensors, but no {FORMAT!r}; give the file that a watch saved when "
            "a step was not finite"
        )
    return Step(tensors, facts)


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
    step = read_step(Path(path))
    _load(model, step, Path(path))
    given = step.group("given")
    args, kwargs = put_together(step.facts["given"], [given[str(i)] for i in range(len(given))])
    gradients = {int(i): g for i, g in step.group("gradient").items()}
    with LiveCapture(model) as capture, torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.set_rng_state(step.tensors["random"])
        results = tensors_of(model(*args, **kwargs))
        was_finite = step.facts["results_finite"]
        pairs = [
            (results[i], g if was_finite[i] else _sent_back(results[i], g))
            for i, g in sorted(gradients.items())
            if i < len(results)
        ]
        torch.autograd.backward([r for r, _ in pairs], [g for _, g in pairs])
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        now = None
        if not all(bool(torch.isfinite(g).all()) for g in grads):
            now = locate(model, capture.calls, capture.gradients, step.finding.step or 0, None)
    return Reproduced(step.finding, now, now is not None and _place(now) == _place(step.finding))


def _sent_back(result: Tensor, gradient: Tensor) -> Tensor:
    """What to send back from a result that was not finite in the training.

    If it is finite now, the gradient of then says nothing of the model of now: ones replace it.
    """
    return torch.ones_like(gradient) if bool(torch.isfinite(result).all()) else gradient


def _load(model: nn.Module, step: Step, path: Path) -> None:
    try:
        model.load_state_dict(step.group("model"))
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"{path}: is of another model: {first}") from None
    training = set(step.facts["training"])
    for name, module in model.named_modules():
        module.training = name in training
    model.zero_grad()


def _place(finding: Finding) -> tuple[Any, ...]:
    return finding.layer, finding.gate, *(finding.evidence.get(key) for key in PLACE)
