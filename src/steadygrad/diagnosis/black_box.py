"""The last step of a training, kept so that it can be run again when something breaks in it.

Kept are references alone: the arguments of the model's last call, where torch's random generator
stood before it, and the gradients that came back to its results. Weights are those of the model
until the optimiser moves them, and when a gradient is not finite the watch is there before it.
"""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad import files
from steadygrad.diagnosis.nested import NotPlain, laid_out, taken_apart, tensors_of
from steadygrad.faults import Finding
from steadygrad.flow.hooks import Hook
from steadygrad.record.ownership import refuse_foreign
from steadygrad.sealed import sealed

FORMAT = "steadygrad step 2"
FIRST = "steadygrad step 1"
"""Without a checksum."""


def write_step(path: Path, packed: bytes) -> None:
    """Write a packed step, in one move; a file that is not ours is left alone.

    Raises:
        InputError: Such a file is there.
        OSError: The disk refuses.
    """
    refuse_foreign([path])
    files.replace(path, packed)


class BlackBox:
    """Hooks on a model that keep its last call.

    Args:
        model: The whole model, as the training calls it.

    Attributes:
        seconds: Time that was spent on this; the reader resets it to zero.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._given: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._random: Tensor | None = None
        self._gradients: dict[int, Tensor] = {}
        self._results: list[Tensor] = []
        self.seconds = 0.0
        self._handles = [
            model.register_forward_pre_hook(Hook(self._before), with_kwargs=True),
            model.register_forward_hook(Hook(self._after)),
        ]

    def close(self) -> None:
        """Take the hooks off and let go of everything."""
        for handle in self._handles:
            handle.remove()
        self.clear()

    def clear(self) -> None:
        """Forget the last call: the next step has begun."""
        self._given, self._random, self._gradients, self._results = None, None, {}, []

    def _before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            self._given, self._random, self._gradients = (args, kwargs), torch.get_rng_state(), {}

    def _after(self, model: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if not torch.is_grad_enabled():
            return
        began = time.perf_counter()
        found = self._gradients
        self._results = [value.detach() for value in tensors_of(result)]
        for index, value in enumerate(tensors_of(result)):
            if value.requires_grad:

                def keep(grad: Tensor, index: int = index) -> None:
                    found[index] = grad

                value.register_hook(keep)
        self.seconds += time.perf_counter() - began

    def save(self, path: Path, finding: Finding) -> str | None:
        """Write the step to ``path``; return why that cannot be, or None."""
        packed = self.packed(finding)
        if isinstance(packed, str):
            return packed
        write_step(path, packed)
        return None

    def packed(self, finding: Finding) -> bytes | str:
        """The step as the content of a safetensors file, or a text that says why it cannot be.

        A pickle is not written, so arguments must be tensors, numbers, texts, and tuples, lists
        and dicts of these.
        """
        if self._given is None or self._random is None:
            return "the model itself was not called: the training calls parts of it"
        if not self._gradients:
            return "no gradient came back to the results of the model"
        tensors: list[Tensor] = []
        try:
            body = taken_apart([self._given[0], self._given[1]], tensors)
        except NotPlain as error:
            return f"the model was given a {error}, which a file cannot hold without a pickle"
        kept = {f"given/{i}": laid_out(t) for i, t in enumerate(tensors)}
        kept |= {f"model/{n}": laid_out(t) for n, t in self._model.state_dict().items()}
        kept |= {f"gradient/{i}": laid_out(g) for i, g in self._gradients.items()}
        kept["random"] = self._random
        training = [name for name, module in self._model.named_modules() if module.training]
        facts = {
            "format": FORMAT,
            "given": body,
            "training": training,
            "results_finite": [bool(torch.isfinite(r).all()) for r in self._results],
            "finding": finding.to_record(),
        }
        return sealed(kept, facts)
