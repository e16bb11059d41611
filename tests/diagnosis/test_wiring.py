"""Layers that nothing trains: detached, frozen, or not held by the optimiser."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg

LAG = 10


class Reader(nn.Module):
    """A GRU and a head; ``passed`` stands between them."""

    def __init__(self, passed: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        super().__init__()
        self.rnn, self.head, self._passed = nn.GRU(3, 8), nn.Linear(8, 2), passed

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._passed(self.rnn(x)[0][-1]))


class Ungraded(Reader):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.rnn(x)[0][-1]
        return self.head(y)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), 1e-3)


def of_head(model: Reader) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.head.parameters(), 1e-3)


def before_replacement(model: Reader) -> torch.optim.Optimizer:
    optimizer = adam(model)
    model.rnn = nn.GRU(3, 8)
    return optimizer


def frozen(model: Reader) -> torch.optim.Optimizer:
    model.rnn.requires_grad_(False)
    return adam(model)


def frozen_over_state(model: Reader) -> torch.optim.Optimizer:
    model.rnn.weight_hh_l0.requires_grad_(False)
    return adam(model)


CASES: dict[str, tuple[Callable[[], Reader], Callable[..., torch.optim.Optimizer], str]] = {
    "as it should be": (Reader, adam, "healthy"),
    "detached": (lambda: Reader(Tensor.detach), adam, "detached"),
    "no_grad": (Ungraded, adam, "detached"),
    "frozen": (Reader, frozen, "frozen-weights"),
    "frozen over the state": (Reader, frozen_over_state, "frozen-weights"),
    "optimiser of the head": (Reader, of_head, "not-in-optimizer"),
    "optimiser made too early": (Reader, before_replacement, "stale-optimizer"),
}


def losses(model: nn.Module, count: int) -> Iterator[Tensor]:
    torch.manual_seed(1)
    for _ in range(count):
        x = torch.randn(LAG + 5, 4, 3)
        yield nn.functional.cross_entropy(model(x), (x[-1, :, 0] > 0).long())


@pytest.mark.filterwarnings("ignore:no call of a recurrent layer")
@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("case", CASES)
def test_what_nothing_trains_is_named(case: str, every: int) -> None:
    torch.manual_seed(0)
    factory, optimise, expected = CASES[case]
    model = factory()
    optimizer = optimise(model)
    with sg.watch(model, optimizer, lag=LAG, every=every) as watch:
        for loss in losses(model, 5):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert watch.verdict == expected, watch
    if expected in ("detached", "frozen-weights"):  # seen without an optimiser, too
        found = sg.diagnose(model, lambda: next(losses(model, 1)), lag=LAG)
        assert found.verdict == expected and expected in str(found)


def test_a_target_network_and_another_optimiser_are_no_fault() -> None:
    """As in Q-learning and in adversarial training: two layers that this optimiser does not move.

    One is copied now and then and called without gradients, one is moved by another optimiser.
    """
    torch.manual_seed(0)
    online, target, other = Reader(), Reader(), Reader()
    model = nn.ModuleDict({"online": online, "target": target, "other": other})
    target.load_state_dict(online.state_dict())
    optimizer, second = adam(online), adam(other)
    with sg.watch(model, optimizer, lag=LAG, every=2) as watch:
        for step in range(8):
            x = torch.randn(LAG + 5, 4, 3)
            with torch.no_grad():
                wanted = target(x)
            optimizer.zero_grad()
            second.zero_grad()
            ((online(x) - wanted - 1).square().mean() + other(x).square().mean()).backward()
            optimizer.step()
            second.step()
            if step == 4:
                target.load_state_dict(online.state_dict())
        assert watch.verdict == "healthy", watch
