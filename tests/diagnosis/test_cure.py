"""The cure in the reader's hand: ranked remedies, lines to paste, apply and undo."""

import copy
import math
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.cli import main
from steadygrad.diagnosis.caller import names_of
from steadygrad.diagnosis.prescribe import Prescriber
from steadygrad.diagnosis.trial import Effect, Trial
from steadygrad.faults import FAULTS, Finding
from steadygrad.record import Record, read

STEPS = 100


class Net(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn: Any = kind(2, 24)
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def loss_of(net: nn.Module) -> Tensor:
    x = torch.randn(STEPS, 6, 2, generator=torch.Generator().manual_seed(5))
    return net(x).pow(2).mean()


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, sg.LSTM])
def test_the_first_remedy_mends_a_copy_and_so_does_its_patch(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    mine = Net(kind)
    twin, before = copy.deepcopy(mine), torch.get_rng_state()
    versions = [p._version for p in mine.parameters()]
    d = sg.diagnose(mine, lambda: loss_of(mine), lag=STEPS - 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert versions == [p._version for p in mine.parameters()]
    (finding,) = d.findings
    assert d.verdict == "vanishing" and set(finding.effects) == set(finding.remedies)
    left = [re.search(r"becomes (\S+),", finding.effects[r]) for r in finding.remedies]
    decades = [abs(math.log10(float(m[1]))) for m in left if m is not None and m[1] != "nothing"]
    assert decades[0] < 4 and int(decades[0]) == min(map(int, decades))
    assert "mine" in finding.patch and finding.patch.replace("\n", "\n    ") in str(d)
    exec(finding.patch, {"mine": twin, "sg": sg, "torch": torch})
    assert sg.diagnose(twin, lambda: loss_of(twin), lag=STEPS - 1).verdict == "healthy"
    applied = d.apply()
    assert sg.diagnose(mine, lambda: loss_of(mine), lag=STEPS - 1).verdict == "healthy"
    with pytest.raises(ValueError, match="the verdict is healthy"):
        sg.diagnose(mine, lambda: loss_of(mine), lag=STEPS - 1).apply()
    applied.undo()
    assert sg.diagnose(mine, lambda: loss_of(mine), lag=STEPS - 1).verdict == "vanishing"
    last = finding.remedies[-1]
    assert d.apply(last.partition(":")[0]).remedy.spec == last


class Trainer:
    """A program that keeps what it needs in its own attributes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.core = Net(nn.RNN)
        self.opt = torch.optim.Adam(self.core.parameters(), 1e-3)
        self.w = sg.watch(self.core, self.opt, lag=STEPS - 1, every=1, input_probe=False)

    def step(self) -> None:
        loss = loss_of(self.core)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()


def trainer() -> Any:
    """Untyped, as its layer changes its kind."""
    return Trainer()


def test_a_watch_applies_in_the_middle_of_a_training_and_goes_on(tmp_path: Path) -> None:
    t = trainer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            t.step()
    assert t.w.verdict == "vanishing"
    text = str(t.w)
    assert "self.core" in text and "may help: gated" in text
    page = t.w.save(tmp_path / "page.html").read_text()
    assert "To paste:" in page and "self.core" in page and "Tried on a copy" in page
    applied = t.w.apply()
    assert "GRU" in repr(t.core)
    old = t.core.rnn.weight_hh_l0.detach().clone()
    for _ in range(2):
        t.step()
    assert t.w.verdict == "healthy" and not torch.equal(t.core.rnn.weight_hh_l0, old)
    assert list(t.w.flow) == ["rnn"] and t.w.flow["rnn"].cell == "gru"
    applied.undo()
    for _ in range(2):
        t.step()
    assert "GRU" not in repr(t.core) and t.w.verdict == "vanishing"
    clip = t.w.apply("clip-norm:max_norm=1e-9")
    before = [p.detach().clone() for p in t.core.parameters()]
    t.step()
    norms = [p.grad for p in t.core.parameters() if p.grad is not None]
    assert float(nn.utils.get_total_norm(norms)) <= 1e-9 * 1.001 and before
    clip.undo()
    with pytest.raises(ValueError, match=r"self\.core"):
        t.w.apply("omega")
    t.w.close()


def test_names_are_those_of_the_calling_program() -> None:
    network = nn.LSTM(1, 2)
    solver = torch.optim.SGD(network.parameters(), 0.1)
    names = names_of(network, solver)
    assert (names.model, names.optimizer) == ("network", "solver")
    assert names.modules == {"sg": "sg", "torch": "torch"}
    assert names_of(nn.LSTM(1, 2)).model == "model"


def test_names_are_those_of_the_program_and_not_of_the_framework_between() -> None:
    code = "def fit(pl_module, ask):\n    return ask(pl_module)\n"
    framework: dict[str, Any] = {"__name__": "framework"}
    exec(compile(code, "/env/lib/site-packages/framework/loop.py", "exec"), framework)
    network = nn.LSTM(1, 2)
    assert framework["fit"](network, names_of).model == "network"
    agent = SimpleNamespace(policy=nn.LSTM(1, 2))
    assert framework["fit"](agent.policy, names_of).model == "agent.policy"
    assert framework["fit"](nn.LSTM(1, 2), names_of).model == "model"


def test_remedies_and_advice_of_a_rate_do_not_contradict_each_other() -> None:
    solver = torch.optim.SGD(nn.LSTM(1, 2).parameters(), 0.1)
    assert solver.param_groups
    for fault, size in (("lr-low", 1e-7), ("lr-high", 3.0)):
        found = FAULTS[fault].finding("optimizer", "...", evidence={"update_ratio": size})
        told = Prescriber(nn.LSTM(1, 2), names_of(None, solver)).prescribe(found)
        assert "tenfold" not in " ".join(told.advice)
        factor = sg.remedies.parse(told.remedies[0]).options["factor"]
        assert told.patch.endswith(f'group["lr"] *= {factor!r}') and "solver" in told.patch


def test_explain_shows_what_to_paste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = Finding("vanishing", "rnn", "it vanishes", remedies=("gated",), patch="a = 1\nb = 2")
    for name, config, says in (
        ("watch", {}, "To paste:\n  a = 1\n  b = 2"),
        ("train", {"remedies": ["clip-norm"]}, "To paste:\n  --remedies clip-norm gated"),
    ):
        with Record.create(tmp_path / f"{name}.db", config=config) as record:
            record.scalars(1, {"loss": 1.0})
            record.finding(1, found.to_record())
        assert main(["explain", str(tmp_path / f"{name}.db")]) == 0
        assert says in capsys.readouterr().out


def test_remedies_are_tried_when_somebody_reads_and_as_of_the_step_that_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[str] = []
    effect = Trial.effect

    def counted(self: Trial, remedy: sg.remedies.Remedy, fault: str) -> Effect:
        tried.append(remedy.spec)
        return effect(self, remedy, fault)

    monkeypatch.setattr(Trial, "effect", counted)
    torch.manual_seed(0)
    model = nn.LSTM(3, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    x = torch.randn(40, 4, 3)

    def loss() -> Tensor:
        return model(x)[0][-1].square().mean()

    at_once = sg.diagnose(model, loss, lag=39, rows=4, sources=3)
    tried.clear()
    with Record.create(tmp_path / "run.db", config={}) as record:
        w = sg.watch(model, optimizer, lag=39, every=1, record=record)
        for _ in range(3):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        assert w.verdict == "vanishing" and not tried  # a look, and a verdict, try nothing
        (found,) = w.findings
        assert tried
        assert (found.remedies, found.effects, found.patch) == (
            at_once.findings[0].remedies,
            at_once.findings[0].effects,
            at_once.findings[0].patch,
        )
        tried.clear()
        assert w.findings == [found] and str(w)
        w.close()
        assert not tried  # once for each fault
    with read(tmp_path / "run.db") as run:
        (noted,) = run.findings()
    assert noted["remedies"] == list(found.remedies) and noted["effects"] == dict(found.effects)
