"""The last step of a training, kept so that it can be run again when something breaks in it.

Kept are references alone: the arguments of the model's last call, where torch's random generator
stood before it, and the gradients that came back to its results. Weights are those of the model
until the optimiser moves them, and when a gradient is not finite the watch is there before it.
"""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steadygrad import files
from steadygrad.diagnosis.nested import NotPlain, laid_out, taken_apart, tensors_of
from steadygrad.faults import Finding
from steadygrad.flow.hooks import Hook
from steadygrad.flow.live import LiveCapture
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
        begun: Calls so far, of which the last one of each step is kept.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.begun = self._cleared_at = 0
        self._is_running_again = self._is_light = self._draws = False
        self._given: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._random: Tensor | None = None
        self._gradients: dict[int, Tensor] = {}
        self._results: list[Tensor] = []
        self.seconds = 0.0
        self._handles: list[RemovableHandle] = []
        self._hook(is_light=False)

    def turn(self, is_light: bool) -> None:
        """Keep as little as can be of the next calls, or all of them at once.

        Where nothing in the model draws random numbers, their state is not kept then; and of the
        results those tensors themselves, with their graph until `clear`, so that no call into
        Python is needed in the backward pass.
        """
        if is_light != self._is_light and self._handles:
            self._unhook()
            self._hook(is_light)

    def _hook(self, is_light: bool) -> None:
        self._is_light, model = is_light, self._model
        if self._draws or not is_light:
            self._handles.append(model.register_forward_pre_hook(Hook(self._before)))
        after = Hook(self._after_light if is_light else self._after)
        self._handles.append(model.register_forward_hook(after, with_kwargs=True))

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def close(self) -> None:
        """Take the hooks off and let go of everything."""
        self._unhook()
        self.clear()

    def clear(self) -> None:
        """Forget the last call: the next step has begun."""
        self._given, self._random, self._gradients, self._results = None, None, {}, []
        self._cleared_at = self.begun

    def end_light(self) -> bool:
        """Forget the last call; whether the model was called once since that was done before."""
        is_one = self.begun == self._cleared_at + 1
        self._given, self._results, self._cleared_at = None, [], self.begun
        return is_one

    @property
    def is_whole(self) -> bool:
        """Whether the step was one call of the model, to which a gradient came back."""
        return self.begun == self._cleared_at + 1 and any(True for _ in self._came_back())

    def _came_back(self) -> Iterator[tuple[int, Tensor]]:
        """The gradients at the results, by place."""
        yield from self._gradients.items()
        for index, value in enumerate(self._results):
            if value.requires_grad and value.grad is not None:
                yield index, value.grad

    def _before(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled() and not self._is_running_again:
            began = time.perf_counter()
            self._results = []
            self._random = torch.get_rng_state()
            self.seconds += time.perf_counter() - began

    def _after(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        if not torch.is_grad_enabled() or self._is_running_again:
            return
        began = time.perf_counter()
        self.begun += 1
        self._given, self._gradients = (args, kwargs), {}
        values = [result] if isinstance(result, Tensor) else tensors_of(result)
        self._results = [value.detach() for value in values]
        for index, value in enumerate(values):
            if value.requires_grad:
                value.register_hook(partial(self._gradients.__setitem__, index))
        if not self._draws and self._random is not None:
            self._draws = not torch.equal(self._random, torch.get_rng_state())
        self.seconds += time.perf_counter() - began

    def _after_light(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        if not torch.is_grad_enabled() or self._is_running_again:
            return
        self.begun += 1
        self._given = args, kwargs
        self._results = values = [result] if isinstance(result, Tensor) else tensors_of(result)
        for value in values:
            if value.requires_grad:
                value.retain_grad()

    def run_again(self, capture: LiveCapture) -> bool:
        """Run the step again under a capture, for what was not kept of it the first time.

        Weights are still those of the step, arguments and random draws the same; buffers, which the
        forward pass may have moved on, are put back afterwards. No parameter's gradient is touched.

        Args:
            capture: Whose hooks are on when this returns; it holds the calls and their gradients.

        Returns:
            Whether this was the same step: one call of the model, that gave the same results. If
            not, the capture holds nothing.
        """
        given, random, gradients = self._given, self._random_state(), dict(self._came_back())
        capture.turn(True)
        capture.clear()
        if not self.is_whole or given is None:
            return False
        buffers = [(b, b.clone()) for b in self._model.buffers()]
        devices = sorted({p.device.index or 0 for p in self._model.parameters() if p.is_cuda})
        self._is_running_again = True
        try:
            with torch.random.fork_rng(devices), torch.enable_grad():
                torch.set_rng_state(random)
                again = tensors_of(self._model(*given[0], **given[1]))
                before = self._results
                is_same = len(again) == len(before) and all(map(_equal, again, before))
                if is_same:
                    held = [p for p in self._model.parameters() if p.requires_grad]
                    sent = [again[i] for i in gradients], [*gradients.values()]
                    # By `grad`, which leaves every .grad as it is.
                    torch.autograd.grad(sent[0], held, sent[1], allow_unused=True)
        except Exception:  # any of the user's own: a step that cannot be repeated
            is_same = False
        finally:
            self._is_running_again = False
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
        if not is_same:
            capture.clear()
        return is_same

    def _random_state(self) -> Tensor:
        """Before the call; any, where the model draws nothing."""
        return torch.get_rng_state() if self._random is None else self._random

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
        if self._given is None:
            return "the model itself was not called: the training calls parts of it"
        gradients = dict(self._came_back())
        if not gradients:
            return "no gradient came back to the results of the model"
        tensors: list[Tensor] = []
        try:
            body = taken_apart([self._given[0], self._given[1]], tensors)
        except NotPlain as error:
            return f"the model was given a {error}, which a file cannot hold without a pickle"
        kept = {f"given/{i}": laid_out(t) for i, t in enumerate(tensors)}
        kept |= {f"model/{n}": laid_out(t) for n, t in self._model.state_dict().items()}
        kept |= {f"gradient/{i}": laid_out(g) for i, g in gradients.items()}
        kept["random"] = self._random_state()
        training = [name for name, module in self._model.named_modules() if module.training]
        facts = {
            "format": FORMAT,
            "given": body,
            "training": training,
            "results_finite": [bool(torch.isfinite(r).all()) for r in self._results],
            "finding": finding.to_record(),
        }
        return sealed(kept, facts)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two results agree to rounding, values that are not finite included."""
    return a.shape == b.shape and torch.allclose(a.detach(), b, 1e-3, 1e-6, equal_nan=True)
