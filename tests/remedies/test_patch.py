"""Patches do, pasted, what the remedy does; a remedy can be put to work in a live training."""

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.remedies import REMEDIES, Attached, Course, Names, Patch, Remedy
from steadygrad.remedies.patch import expression

STEPS, B, I, H = 7, 3, 2, 5
NAMES = Names("self.net", "opt", "cost", {"sg": "grad"})


class Net(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.body = nn.ModuleList([kind(I, H)])
        self.head = nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body[0](x)[0][-1])


def made(remedy: Remedy) -> Net | None:
    torch.manual_seed(0)
    return next((n for k in (nn.RNN, nn.LSTM) if remedy.applicable(n := Net(k))), None)


def train(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    on_loss: Callable[[Tensor], Tensor] = lambda loss: loss,
    on_step: Callable[[], object] = lambda: None,
    steps: int = 4,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        loss = net(torch.randn(STEPS, B, I, generator=generator)).pow(2).mean()
        optimizer.zero_grad()
        on_loss(loss).backward()
        on_step()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), 0.02)


def specs() -> list[Remedy]:
    """Every remedy so that it acts at once, and those whose patch is written by hand otherwise."""
    by_hand = [k for k in REMEDIES.values() if "patch" in vars(k) or "fitted" in vars(k)]
    found = [kind(**kind.few_steps) for kind in REMEDIES.values()]
    for kind in by_hand:
        found += [*kind.fitted(20), *(kind(**{k: v}) for k, v in kind.other.items())]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("remedy", specs(), ids=lambda remedy: remedy.spec)
def test_a_pasted_patch_trains_bit_by_bit_as_the_remedy(remedy: Remedy) -> None:
    net = made(remedy)
    if net is None:
        pytest.skip("suits neither an RNN nor an LSTM")
    other = copy.deepcopy(net)
    patch = remedy.patch(other, NAMES)
    text = patch.text(NAMES)
    assert text.startswith(("# once", "# after", "import"))

    torch.manual_seed(1)
    course = Course([remedy], net)
    optimizer = adam(net)
    course.begin(optimizer)
    want = train(net, optimizer, lambda x: x + course.penalty(x), course.gradients)

    torch.manual_seed(1)
    scope: dict[str, Any] = {"self": SimpleNamespace(net=other), "grad": sg, "torch": torch}

    def run(lines: tuple[str, ...]) -> None:
        # The names of modules are put in as `text` does it; each place is run by itself.
        exec(Patch(model=lines).text(NAMES), scope)

    run(patch.model)
    scope["opt"] = adam(other)
    run(patch.optimizer)

    def on_loss(loss: Tensor) -> Tensor:
        scope["cost"] = loss
        run(patch.loss)
        return scope["cost"]

    got = train(other, scope["opt"], on_loss, lambda: run(patch.step))
    torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("name", REMEDIES)
def test_put_to_work_in_a_live_training_and_taken_out(name: str) -> None:
    """The loop goes on with the remedy's effect, and after undo as if it had never been."""
    remedy = REMEDIES[name](**REMEDIES[name].few_steps)
    net = made(remedy)
    if net is None:
        pytest.skip("suits neither an RNN nor an LSTM")
    optimizer = adam(net)
    train(net, optimizer, steps=2)
    twin = copy.deepcopy(net)
    other = adam(twin)
    before, state = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())
    other.load_state_dict(copy.deepcopy(state))  # or both would share their moments
    if remedy.has_penalty:
        with pytest.raises(ValueError, match="which only your loop can do"):
            Attached(remedy, net, optimizer)
    else:
        attached = Attached(remedy, net, optimizer)
        held = {id(p) for g in optimizer.param_groups for p in g["params"]}
        assert {id(p) for p in net.parameters() if p.requires_grad} == held
        assert attached.changed in str(attached)
        torch.manual_seed(0)
        train(net, optimizer, steps=2)
        attached.undo()
        attached.undo()
    net.load_state_dict(before)
    optimizer.load_state_dict(state)
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    want = train(twin, other, steps=2)
    torch.testing.assert_close(train(net, optimizer, steps=2), want, rtol=0, atol=0)


def test_undo_restores_weights_and_moments_bit_by_bit() -> None:
    for spec in ("gated:cell=lstm", "irnn", "orthogonal-init", "clip-through-time"):
        remedy = sg.remedies.parse(spec)
        net = made(remedy)
        assert net is not None
        optimizer = adam(net)
        train(net, optimizer)
        before, state = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())
        Attached(remedy, net, optimizer).undo()
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name])
        after = optimizer.state_dict()
        assert after["param_groups"] == state["param_groups"]
        for key, moments in state["state"].items():
            for name, value in moments.items():
                assert torch.equal(after["state"][key][name], value), (spec, name)


def test_new_parameters_join_the_group_of_those_they_replace() -> None:
    net = made(sg.remedies.Gated())
    assert net is not None
    groups = [
        {"params": list(net.head.named_parameters(prefix="head")), "lr": 0.5},
        {"params": list(net.body.named_parameters(prefix="body")), "lr": 0.1},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    train(net, optimizer)
    Attached(sg.remedies.Gated(), net, optimizer)
    assert isinstance(net.body[0], nn.GRU)
    head, body = optimizer.param_groups
    assert head["params"] == list(net.head.parameters()) and head["lr"] == 0.5
    assert {id(p) for p in body["params"]} == {id(p) for p in net.body.parameters()}
    assert body["param_names"] == [n for n, _ in net.body.named_parameters(prefix="body")]
    assert all(p in optimizer.state for p in head["params"])
    train(net, optimizer)


def test_clips_act_inside_of_closures_too() -> None:
    net = made(sg.remedies.ClipNorm())
    assert net is not None
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3)
    Attached(sg.remedies.ClipNorm(1e-3), net, optimizer)
    x = torch.randn(STEPS, B, I)
    norms: list[float] = []

    def closure() -> Tensor:
        if norms:
            norms.append(
                float(
                    nn.utils.get_total_norm(
                        [p.grad for p in net.parameters() if p.grad is not None]
                    )
                )
            )
        norms.append(math.inf)
        optimizer.zero_grad()
        loss = 1e3 * net(x).pow(2).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    seen = [n for n in norms if math.isfinite(n)]
    assert len(seen) >= 1 and max(seen) <= 1e-3 * (1 + 1e-5)
    with pytest.raises(ValueError, match="LBFGS keeps one history"):
        Attached(sg.remedies.Gated(), net, optimizer)
    assert isinstance(net.body[0], nn.RNN)
    with pytest.raises(ValueError, match="give the optimizer too"):
        Attached(sg.remedies.AutoClip(), net)


def test_paths_are_written_as_python() -> None:
    inner = nn.ModuleDict({"a b": nn.Sequential(nn.Linear(1, 1), nn.LSTM(2, 3))})
    net: Any = nn.ModuleList([nn.Identity(), inner])
    for path, parameter in net.named_parameters():
        assert eval(expression("net", net, path), {"net": net}) is parameter
    assert expression("net", net, "") == "net"
