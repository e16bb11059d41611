"""Trainings that turn non-finite for many causes: the first bad place is named, and replayed.

Each cause is built so that the place is known by construction, not by our own rules.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import steadygrad as sg
from steadygrad.cells import Cell, Gates, PerUnit, Recur, State
from steadygrad.cli import main
from steadygrad.diagnosis import Finding, reproduce
from steadygrad.diagnosis.nested import put_together, taken_apart
from steadygrad.record import Record, read

T, B, I, H = 12, 4, 3, 6
NAN, INF = float("nan"), float("inf")


class Reader(nn.Module):
    """Symbols or values, a recurrent layer with dropout before it, and a head."""

    def __init__(self, layer: nn.Module, symbols: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, I) if symbols else None
        self.drop = nn.Dropout(0.2)
        self.rnn = layer
        self.head = nn.Linear(H, 2)
        self.normalise = False

    def forward(self, x: Tensor, state: Any = None, *, scale: float = 1.0) -> Tensor:
        x = x if self.embedding is None else self.embedding(x)
        if self.normalise:
            x = (x - x.mean(0)) / x.std(0)
        output, _ = self.rnn(self.drop(x), state)
        return scale * self.head(output[-1])


@final
@dataclass(frozen=True)
class Exponential(Cell):
    """An exponential input gate without a stabiliser."""

    name: ClassVar[str] = "exponential"
    gates: ClassVar[tuple[str, ...]] = ("input", "candidate")

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        (h,) = state
        z = torch.tanh(x.candidate + recur.candidate(h))
        return (h + torch.exp(torch.relu(x.input + recur.input(h))) * z,)


@dataclass(frozen=True)
class Case:
    """One cause: what is done at step 3, and what must be named."""

    make: Callable[[Any], nn.Module]
    spoil: Callable[[Any, Tensor], Tensor] = lambda model, x: x
    loss: Callable[[Tensor], Tensor] = lambda y: y.square().mean()
    layer: str = "rnn"
    tensor: str | None = None
    time_step: int | None = None
    sequence: int | None = None
    state: bool = False
    rate: float = 1e-3
    step: int = 3
    prepare: Callable[[Any], None] = lambda model: None

    def model(self, ours: bool) -> Any:
        """A new model of this training."""
        made = self.make(ours)
        self.prepare(made)
        return made


def values(value: float, t: int, row: int) -> Callable[[Any, Tensor], Tensor]:
    def spoil(model: Any, x: Tensor) -> Tensor:
        x = x.clone()
        x[t, row, 1] = value
        return x

    return spoil


def weight(name: str, value: float) -> Callable[[Any, Tensor], Tensor]:
    def spoil(model: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            dict(model.named_parameters())[name].view(-1)[0] = value
        return x

    return spoil


def scaled(name: str, factor: float) -> Callable[[Any, Tensor], Tensor]:
    def spoil(model: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            dict(model.named_parameters())[name].mul_(factor)
        return x

    return spoil


def constant_feature(model: Any, x: Tensor) -> Tensor:
    """A feature without spread, which the model divides by its standard deviation."""
    x = x.clone()
    x[:, 2, 0] = 1.0
    return x


def normalising(model: Any) -> None:
    model.normalise = True


def without_dropout(model: Any) -> None:
    model.drop.p = 0.0


def lstm(ours: bool) -> nn.Module:
    return Reader((sg.LSTM if ours else nn.LSTM)(I, H))


def gru(ours: bool) -> nn.Module:
    return Reader((sg.GRU if ours else nn.GRU)(I, H))


def relu(ours: bool) -> nn.Module:
    return Reader((sg.RNN if ours else nn.RNN)(I, H, nonlinearity="relu"))


def tanh(ours: bool) -> nn.Module:
    return Reader((sg.RNN if ours else nn.RNN)(I, H))


def symbols(ours: bool) -> nn.Module:
    return Reader((sg.GRU if ours else nn.GRU)(I, H), symbols=True)


CASES: dict[str, Case] = {
    "nan in the data": Case(lstm, values(NAN, 7, 2), tensor="input", time_step=7, sequence=2),
    "infinity in the data": Case(gru, values(INF, 0, 3), tensor="input", time_step=0, sequence=3),
    "a feature divided by no spread": Case(
        tanh, constant_feature, tensor="input", time_step=0, sequence=2, prepare=normalising
    ),
    "a spoilt embedding": Case(
        symbols,
        weight("embedding.weight", NAN),
        layer="embedding.weight",
        tensor="embedding.weight",
    ),
    "a spoilt recurrent weight": Case(
        lstm, weight("rnn.weight_hh_l0", INF), layer="rnn.weight_hh_l0", tensor="rnn.weight_hh_l0"
    ),
    "a spoilt initial state": Case(gru, tensor="initial state", sequence=1, state=True),
    "a state that overflows": Case(
        relu, scaled("rnn.weight_hh_l0", 1e9), tensor="output", prepare=without_dropout
    ),
    "the logarithm of zero": Case(
        lstm, loss=lambda y: (0 * y).log().sum(), tensor="gradient at the output", time_step=T - 1
    ),
    "the root of zero": Case(
        gru, loss=lambda y: (y - y.detach()).sqrt().sum(), tensor="gradient at the output"
    ),
    "a head that overflows": Case(
        tanh, scaled("head.weight", 1e38), lambda y: y.exp().sum(), tensor="gradient at the output"
    ),
    "a learning rate without measure": Case(
        lstm, rate=1e38, loss=lambda y: 1e6 * y.sum(), layer="rnn.weight_ih_l0", step=2
    ),
}


def expected_overflow(layer: Any, x: Tensor) -> tuple[int, int]:
    """First step and row at which a ReLU recurrence leaves float32, step by step."""
    h = torch.zeros(B, H)
    for t in range(T):
        pre = x[t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T
        h = (pre + layer.bias_hh_l0).relu()
        if not torch.isfinite(h).all():
            return t, int((~torch.isfinite(h)).any(1).nonzero()[0])
    raise AssertionError("it did not overflow")


def training(case: Case, ours: bool, folder: Path) -> tuple[Finding, Any]:
    """Train until it breaks; the finding, and what the oracle needs."""
    torch.manual_seed(0)
    model = case.model(ours)
    optimizer = torch.optim.SGD(model.parameters(), case.rate)
    seen: Any = None
    with (
        Record.create(folder / "run.db", config={}) as record,
        sg.watch(model, optimizer, record=record, budget=1.0) as watch,
    ):
        for step in range(1, 4):
            x = torch.randn(T, B, I) if model.embedding is None else torch.randint(5, (T, B))
            state = None
            if step == 3:
                x = case.spoil(model, x)
                if case.state:
                    state = torch.zeros(1, B, H)
                    state[0, 1, 4] = NAN
                if case.make is relu:
                    seen = expected_overflow(model.rnn, x)
            loss = case.loss if step == 3 or case.step < 3 else Case(lstm).loss
            optimizer.zero_grad()
            loss(model(x, state)).backward()
            optimizer.step()
        (finding,) = [f for f in watch.findings if f.fault == "nonfinite"]
    return finding, seen


@pytest.mark.parametrize("ours", [False, True], ids=["torch", "ours"])
@pytest.mark.parametrize("cause", CASES)
def test_the_first_bad_place_is_named_and_replayed(cause: str, ours: bool, tmp_path: Path) -> None:
    case = CASES[cause]
    finding, seen = training(case, ours, tmp_path)
    assert finding.layer == case.layer and finding.step == case.step
    if case.tensor:
        assert finding.evidence["tensor"] == case.tensor
    for name in ("time_step", "sequence"):
        if getattr(case, name) is not None:
            assert finding.evidence[name] == getattr(case, name)
    if seen:
        assert (finding.evidence["time_step"], finding.evidence["sequence"]) == seen
    saved = tmp_path / str(finding.evidence["saved"])
    torch.manual_seed(99)  # neither the weights nor the draws of today
    found = reproduce(saved, case.model(ours))
    assert found.same and found.now is not None and found.now.text == finding.text
    found = reproduce(saved, case.model(ours))  # and again
    assert found.same


def test_the_way_back_of_a_long_sequence_overflows(tmp_path: Path) -> None:
    """Linear, gain 10, 60 steps: dL/dh_t leaves float32 where 10^(T-1-t) does."""
    layer: Any = nn.RNN(I, H, nonlinearity="relu", bias=False)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(10 * torch.eye(H))
        layer.weight_ih_l0.fill_(1e-30)
    optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
    with (
        Record.create(tmp_path / "run.db", config={}) as record,
        sg.watch(layer, optimizer, record=record) as watch,
    ):
        (layer(torch.ones(60, 1, I))[0][-1, :, :1] * 1e-20).sum().backward()
        optimizer.step()
    (finding,) = [f for f in watch.findings if f.fault == "nonfinite"]
    limit = math.log10(torch.finfo(torch.float32).max)
    assert finding.evidence["time_step"] == 59 - math.ceil(limit + 20)
    again: Any = nn.RNN(I, H, nonlinearity="relu", bias=False)
    assert reproduce(tmp_path / finding.evidence["saved"], again).same


def test_an_exponential_gate_without_a_stabiliser_is_named(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return Reader(sg.Recurrent(Exponential(), I, H))

    torch.manual_seed(0)
    model: Any = make()
    nn.init.zeros_(model.rnn.weight_hh_l0)  # or the recurrence blows up by itself
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with (
        Record.create(tmp_path / "run.db", config={}) as record,
        sg.watch(model, optimizer, record=record) as watch,
    ):
        x = torch.randn(T, B, I)
        x[5, 2] = 3e4
        model(x).square().mean().backward()
        optimizer.step()
    (finding,) = [f for f in watch.findings if f.fault == "nonfinite"]
    assert finding.evidence["time_step"] == 5 and finding.evidence["sequence"] == 2
    found = reproduce(tmp_path / finding.evidence["saved"], make())
    assert found.same and found.now is not None and found.now.gate == finding.gate


def test_dropout_repeats_its_draws(tmp_path: Path) -> None:
    """Only some draws break: were they drawn anew, the step would not break again."""
    case = Case(lstm, loss=lambda y: torch.where(y[0, 0] > 0, y, y / 0).sum())
    for seed in range(20):
        torch.manual_seed(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        model = lstm(False)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        with (
            Record.create(folder / "run.db", config={}) as record,
            sg.watch(model, optimizer, record=record, budget=1.0) as watch,
        ):
            case.loss(model(torch.randn(T, B, I))).backward()
            optimizer.step()
        broken = [f for f in watch.findings if f.fault == "nonfinite"]
        if broken:
            assert reproduce(folder / broken[0].evidence["saved"], lstm(False)).same
            return
    raise AssertionError("no draw broke")


def test_a_repaired_model_is_finite_in_the_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training(CASES["a feature divided by no spread"], False, tmp_path)
    monkeypatch.chdir(tmp_path)
    source = """
import torch
from tests.diagnosis.test_replay import Reader, H, I
from torch import nn

def broken():
    model = Reader(nn.RNN(I, H))
    model.normalise = True
    return model

def repaired():
    return Reader(nn.RNN(I, H)), None

def other():
    return Reader(nn.GRU(I, H))

def nothing():
    return 3
"""
    (tmp_path / "mine.py").write_text(source)

    def run(*arguments: str, code: int) -> str:
        assert main(["replay", *arguments]) == code
        out = capsys.readouterr()
        return out.out + out.err

    told = run(".", "--model", "mine.py:broken", code=1)
    assert "reproduced: yes" in told and "time step 0 in sequence 2" in told
    assert "every gradient is finite" in run(".", "--model", "mine.py:repaired", code=0)
    document = json.loads(run(".", "--model", "mine.py:broken", "--json", code=1))
    assert document["reproduced"] and document["now"]["layer"] == "rnn"
    assert "is of another model" in run(".", "--model", "mine.py:other", code=2)
    assert "returns a model" in run(".", "--model", "mine.py:nothing", code=2)
    assert "no such file" in run("none.safetensors", code=2)
    (tmp_path / "empty").mkdir()
    assert "no step was non-finite there" in run("empty", code=2)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    assert "truncated or damaged" in run("bad.safetensors", "--model", "mine.py:broken", code=2)


def test_what_cannot_be_saved_is_said_and_ends_nothing(tmp_path: Path) -> None:
    class Given:
        pass

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(I, H)

        def forward(self, x: Tensor, given: Any) -> Tensor:
            return self.rnn(x)[0]

    def broken(call: Callable[[Any], Tensor], name: str) -> str:
        model = Odd()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        with (
            Record.create(tmp_path / f"{name}.db", config={}) as record,
            sg.watch(model, optimizer, record=record) as watch,
        ):
            (call(model) * NAN).sum().backward()
            optimizer.step()
        (finding,) = [f for f in watch.findings if f.fault == "nonfinite"]
        with read(tmp_path / f"{name}.db") as run:
            assert run.findings()[-1]["evidence"] == dict(finding.evidence)
        return str(finding.evidence["not_saved"])

    x = torch.randn(T, B, I)
    assert "given a Given" in broken(lambda m: m(x, Given()), "a")
    assert "was not called" in broken(lambda m: m.rnn(x)[0], "b")


def test_arguments_survive_the_file() -> None:
    packed = pack_sequence([torch.randn(4, 2), torch.randn(2, 2)])
    leaf = torch.randn(2, requires_grad=True)
    given = [(1, "3", 2.5, NAN, None, True), {"a": [leaf, packed]}]
    tensors: list[Tensor] = []
    body = json.loads(json.dumps(taken_apart(given, tensors)))
    (one, text, number, nan, none, truth), rest = put_together(body, [t.detach() for t in tensors])
    assert (one, text, number, none, truth) == (1, "3", 2.5, None, True) and math.isnan(nan)
    assert rest["a"][0].requires_grad and torch.equal(rest["a"][0], leaf)
    assert isinstance(rest["a"][1], PackedSequence) and torch.equal(rest["a"][1].data, packed.data)


def test_a_run_of_train_is_replayed_from_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "wave.csv"
    rows = "\n".join(f"{math.sin(t / 3):.4f}" for t in range(200))
    data.write_text(f"y\n{rows}\n")
    out = tmp_path / "out"
    options = ["--hidden", "8", "--max-steps", "200", "--learning-rate", "1e6", "--clip", "0"]
    cell = ["--cell", "elman:nonlinearity=relu", "--threads", "1", "--dropout", "0.1"]
    assert main(["train", str(data), *options, *cell, "--out", str(out), "--json"]) == 1
    capsys.readouterr()
    assert main(["replay", str(out)]) == 1
    assert "reproduced: yes" in capsys.readouterr().out
    assert main(["check", str(out), "--fail-on", "nonfinite"]) == 1
