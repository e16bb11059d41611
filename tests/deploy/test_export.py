"""Exported files compute what the model computes, in another run time, at other sizes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steadygrad as sg
from steadygrad.deploy import export, onnx_lowering
from steadygrad.deploy.onnx_functions import decompositions
from steadygrad.errors import InputError

# torch's own functions call those that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low = nn.LSTM(3, 5, batch_first=True)
        self.high = sg.Recurrent("lem", 5, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.high(self.low(x)[0])[0])


def run(path: Path, *given: Tensor) -> list[Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    fed = {name: value.numpy() for name, value in zip(names, given, strict=True)}
    return [torch.as_tensor(value) for value in session.run(None, fed)]


def reset(layer: Any) -> Any:
    """A layer that is to be exported with resets."""
    layer.is_reset = True
    if layer.learn_initial_state:
        nn.init.uniform_(layer.h0_l0)
    return layer


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_model_with_states_runs_piece_by_piece(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = Model()
    done = export(model, tmp_path / "model.onnx", torch.randn(2, 4, 3), states=True)
    assert dict(done.nodes) == {"LSTM": 1, "Scan": 1}
    assert done.inputs[0].shape == ("batch", "time", 3) and done.error <= 1e-5
    assert [port.name for port in done.inputs] == [
        "input", "low.h_0", "low.c_0", "high.h_0", "high.inner_0"
    ]  # fmt: skip
    x = torch.randn(5, 7, 3)
    states = [torch.zeros(1, 5, n) for n in (5, 5, 4, 4)]
    with torch.no_grad():
        whole = model(x)
    pieces: list[Tensor] = []
    for piece in x.split([3, 1, 3], 1):
        output, *states = run(done.path, piece, *states)
        pieces.append(output)
    close(torch.cat(pieces, 1), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "nodes"),
    (
        (lambda: sg.LSTM(3, 4, 2, bidirectional=True), {"LSTM": 4}),
        (lambda: sg.GRU(3, 4, batch_first=True), {"GRU": 1}),
        (lambda: sg.RNN(3, 4, nonlinearity="sigmoid", bias=False), {"RNN": 1}),
        (lambda: sg.LSTM(3, 4, proj_size=2), {"Scan": 1}),
        (lambda: sg.Recurrent("lstm-peephole", 3, 4, bidirectional=True), {"Scan": 2}),
        (lambda: sg.Recurrent("lstm-layer-norm", 3, 4), {"Scan": 1}),
        (lambda: sg.Recurrent("rg-lru", 3, 4), {"Scan": 1}),
        (lambda: reset(sg.LSTM(3, 4, bidirectional=True)), {"Scan": 2}),
        (lambda: reset(sg.Recurrent("gru", 3, 4, learn_initial_state=True)), {"Scan": 1}),
    ),
)
def test_layers_with_lengths_and_states(tmp_path: Path, layer: Any, nodes: dict[str, int]) -> None:
    pytest.importorskip("onnxruntime")
    made = layer()
    anew = getattr(made, "is_reset", False)
    done = export(made, tmp_path / "layer.onnx", states=True, lengths=True, resets=anew)
    assert dict(done.nodes) == nodes
    x = torch.randn(*((5, 6) if made.batch_first else (6, 5)), 3)
    lengths = torch.tensor([3, 6, 1, 4, 6])
    rows = made.num_layers * made.num_directions
    widths = [made.hidden_size if k else made.output_size for k in range(len(made.cell.states))]
    states: Any = tuple(torch.randn(rows, 5, n) for n in widths)
    with torch.no_grad():
        resets = torch.rand(6, 5) < 0.4 if anew else None
        output, last = made(x, states if len(states) > 1 else states[0], lengths, resets)
    parts = last if isinstance(last, tuple) else (last,)
    given = [x, lengths, *([] if resets is None else [resets]), *states]
    for a, b in zip(run(done.path, *given), (output, *parts), strict=True):
        close(a, b)


class Small(nn.Module):
    """Functions whose small results a sum with one would round away."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.expm1(x), torch.log1p(x), F.logsigmoid(x)


@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning")  # in torch itself
def test_small_results_of_functions_keep_their_digits() -> None:
    """The decompositions themselves; ONNX Runtime's tanh, exp and log are as exact as torch's."""
    x = torch.logspace(-10, 1.7, 2001)
    x = torch.cat([x, -x, torch.tensor([0.0, math.inf, -math.inf, math.nan, -1.0, 1e30])])
    program = torch.export.export(Small(), (x,)).run_decompositions(decompositions())
    left = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not left & {f"aten.{n}.default" for n in ("expm1", "log1p", "log_sigmoid")}
    for found, exact in zip(program.module()(x), Small()(x.double()), strict=True):
        torch.testing.assert_close(found, exact.float(), rtol=1e-6, atol=0, equal_nan=True)


def test_torchs_own_format(tmp_path: Path) -> None:
    layer = sg.GRU(3, 4)
    done = export(layer, tmp_path / "layer.pt2", states=True)
    assert done.opset is None and dict(done.nodes) == {"steadygrad::scan": 1}
    x, h = torch.randn(6, 4, 3), torch.randn(1, 4, 4)
    output, last = torch.export.load(done.path).module()(x, h)
    close(output, layer(x, h)[0])
    close(last, layer(x, h)[1])


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_lowering, "ORDER", {"LSTM": (0, 1, 2, 3)})
    with pytest.raises(InputError, match="differs from this one"):
        export(sg.LSTM(3, 4), tmp_path / "layer.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.onnx or \.pt2"):
        export(sg.LSTM(3, 4), tmp_path / "layer.pkl")
    with pytest.raises(InputError, match="pass example="):
        export(Model(), tmp_path / "model.pt2")
    with pytest.raises(InputError, match="in float32, got float64"):
        export(sg.LSTM(3, 4).double(), tmp_path / "layer.pt2")
    with pytest.raises(InputError, match="lengths belong to a recurrent layer"):
        export(Model(), tmp_path / "model.pt2", torch.randn(2, 4, 3), lengths=True)
    with pytest.raises(InputError, match="no recurrent layer"):
        export(nn.Linear(3, 4), tmp_path / "model.pt2", torch.randn(2, 3), states=True)
