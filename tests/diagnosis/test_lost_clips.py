"""Clips that no step uses are named, whatever the loop; their healthy twins are not."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.diagnosis import clip_calls

STEPS = 8
FAULT = "clip-misplaced"


@dataclass
class Loop:
    """What a loop of a user's has at hand."""

    model: nn.Module = field(default_factory=lambda: nn.GRU(2, 3))
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu"))

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01)
        self.used_up = self.model.parameters()
        assert list(self.used_up)

    def loss(self) -> Tensor:
        return self.model(torch.randn(5, 4, 2))[0].square().mean()

    def backward(self) -> None:
        self.loss().backward()

    def clip(self, given: Any = None, bound: float = 1.0) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters() if given is None else given, bound)

    def step(self) -> None:
        self.optimizer.step()

    def clear(self, to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none=to_none)

    def scaled(self, unscales: bool, bound: float = 1.0) -> None:
        self.clear()
        self.scaler.scale(self.loss()).backward()
        if unscales:
            self.scaler.unscale_(self.optimizer)
        self.clip(bound=bound)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def closure(self) -> Tensor:
        self.clear()
        loss = self.loss()
        loss.backward()
        return loss


def noisy(loop: Loop) -> None:
    loop.clear()
    loop.backward()
    loop.clip()
    for p in loop.model.parameters():
        assert p.grad is not None
        p.grad = p.grad + 0.01 * torch.randn_like(p)
    loop.step()


LOST: dict[str, Callable[[Loop], Any]] = {
    "before backward": lambda o: (o.clear(), o.clip(), o.backward(), o.step()),
    "before zeros": lambda o: (o.clear(False), o.clip(), o.backward(), o.step()),
    "before clearing": lambda o: (o.clip(), o.clear(), o.backward(), o.step()),
    "after the step": lambda o: (o.clear(), o.backward(), o.step(), o.clip()),
    "after clearing": lambda o: (o.backward(), o.step(), o.clear(), o.clip()),
    "before a closure": lambda o: (o.backward(), o.clip(), o.optimizer.step(o.closure)),
    "used up": lambda o: (o.clear(), o.backward(), o.clip(o.used_up), o.step()),
    "gradients": lambda o: (
        o.clear(),
        o.backward(),
        o.clip([p.grad for p in o.model.parameters()]),
        o.step(),
    ),
    "scaled": lambda o: o.scaled(unscales=False),
}
USED: dict[str, Callable[[Loop], Any]] = {
    "in its place": lambda o: (o.clear(), o.backward(), o.clip(), o.step()),
    "cleared last": lambda o: (o.backward(), o.clip(), o.step(), o.clear()),
    "twice": lambda o: (o.clear(), o.clip(), o.backward(), o.clip(), o.step()),
    "accumulated": lambda o: (o.clear(), o.backward(), o.clip(), o.backward(), o.step()),
    "measures": lambda o: (o.clear(), o.clip(bound=float("inf")), o.backward(), o.step()),
    "others": lambda o: (o.clear(), o.clip([nn.Parameter(torch.ones(1))]), o.backward(), o.step()),
    "noisy": noisy,
    "unscaled": lambda o: o.scaled(unscales=True),
    "scaled bound": lambda o: o.scaled(unscales=False, bound=o.scaler.get_scale()),
}


@pytest.mark.filterwarnings("ignore:.*an empty generator", "ignore:Skipping first iteration")
@pytest.mark.parametrize("way", [*LOST, *USED])
def test_a_clip_that_no_step_uses_is_named_and_others_are_not(way: str) -> None:
    torch.manual_seed(0)
    loop = Loop()
    with sg.watch(loop.model, loop.optimizer, every=100) as watch:
        for _ in range(STEPS):
            (LOST | USED)[way](loop)
        found = [f for f in watch.findings if f.fault == FAULT]
        assert bool(found) == (way in LOST), watch
    if found:
        assert found[0].text.startswith("Not a gradient problem: ")
        assert "test_lost_clips.py" in found[0].text
        lines = found[0].patch.split("\n")
        assert ("unscale_" in found[0].patch) == (way == "scaled")
        clip = next(i for i, line in enumerate(lines) if "clip_grad_norm_" in line)
        assert any("backward" in line for line in lines[:clip])
        assert any("step(" in line for line in lines[clip:])


def watched_and_left() -> None:
    loop = Loop()
    sg.watch(loop.model, loop.optimizer, every=100)
    LOST["before backward"](loop)


def test_a_watch_that_nobody_closes_listens_no_longer_than_its_optimizer_lives() -> None:
    before = list(clip_calls.LISTENERS)
    watched_and_left()
    gc.collect()
    assert before == clip_calls.LISTENERS
