"""Graphs: compiled, exported, traced; and tensors without values."""

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import steadygrad as sg
from benchmarks.machinery.layers import (
    INPUTS,
    ROWS,
    STEPS,
    Layer,
    Model,
    Probe,
    apart,
    fresh,
    gradients,
    inputs,
    single,
)


def _fake(layer: Layer) -> str:
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = fresh(layer)(torch.randn(STEPS, ROWS, INPUTS))[0]
        output.sum().backward()
    return f"shape {tuple(output.shape)}, gradients too"


def _fake_warm(layer: Layer) -> str:
    for _ in range(3):
        layer(inputs())[0].sum().backward()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        output = layer(mode.from_tensor(inputs()))[0]
        output.sum().backward()
        copied = copy.deepcopy(layer)(mode.from_tensor(inputs()))[0]
    assert copied.shape == output.shape
    return f"shape {tuple(output.shape)}, gradients too"


def _meta(layer: Layer) -> str:
    made = fresh(layer, device="meta")
    output, _ = made(torch.zeros(STEPS, ROWS, INPUTS, device="meta"))
    output.sum().backward()
    return f"shape {tuple(output.shape)}"


def _meta_filled(layer: Layer) -> float:
    with torch.device("meta"):
        made = fresh(layer).double()
    made.to_empty(device="cpu").load_state_dict(layer.state_dict())
    other = fresh(layer, device="meta").double()
    other.load_state_dict(layer.state_dict(), assign=True)
    return max(apart(m(inputs())[0], layer(inputs())[0]) for m in (made, other))


def _compile(layer: Layer, train: bool = True, **options: Any) -> float:
    torch._dynamo.reset()
    model = Model(single(layer).train(train))
    compiled: Any = torch.compile(model, fullgraph=True, **options)
    x = inputs().float()
    if not train:
        with torch.no_grad():
            return max(apart(compiled(v), model(v)) for v in (x, x[:3], x[:, :2]))
    worst = 0.0
    names, weights = zip(*model.named_parameters(), strict=True)
    for v in (x, x[:3], x[:, :2]):
        found, own = (torch.autograd.grad(run(v).sin().sum(), weights) for run in (compiled, model))
        worst = max(worst, apart(found, own))
    assert names
    return worst


def _compiled_autocast(layer: Layer) -> float:
    torch._dynamo.reset()
    model, x = Model(single(layer)), inputs().float()
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        found, own = compiled(x), model(x)
    assert found.dtype == own.dtype, (found.dtype, own.dtype)
    return apart(found, own)


def _aot(layer: Layer) -> float:
    from functorch.compile import aot_module, nop  # type: ignore[import-untyped]

    model, x = Model(single(layer)), inputs().float()
    wrapped = aot_module(model, fw_compiler=nop)
    weights = list(model.parameters())
    found, own = (torch.autograd.grad(run(x).sin().sum(), weights) for run in (wrapped, model))
    return apart(found, own)


def _compiled_backward(layer: Layer) -> float:
    torch._dynamo.reset()
    plain = gradients(layer, inputs())
    with torch._dynamo.config.patch(compiled_autograd=True):

        @torch.compile(backend="aot_eager")
        def backward(value: Tensor) -> None:
            value.backward()

        layer.zero_grad()
        backward(layer(inputs())[0].sin().sum())
    return apart({n: p.grad for n, p in layer.named_parameters()}, plain)


def _export(layer: Layer, strict: bool = False) -> float:
    model, x = Model(single(layer).eval()), inputs().float()
    sizes = {0: torch.export.Dim("time", min=2), 1: torch.export.Dim("batch", min=2)}
    program = torch.export.export(model, (x,), dynamic_shapes=(sizes,), strict=strict)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.pt2")
        torch.export.save(program, path)
        loaded: Any = torch.export.load(path).module()
    other = inputs(9, 2).float()
    return apart(loaded(other), model(other))


def _onnx(layer: Layer) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "layer.onnx")
        return sg.deploy.export(single(layer).eval(), path, states=True).error


def _jit(layer: Layer) -> float:
    model = Model(single(layer).eval())
    traced: Any = torch.jit.trace(model, (inputs().float(),))
    other = inputs(9, 2).float()
    return apart(traced(other), model(other))


def _script(layer: Layer) -> float:
    model = Model(layer)
    return apart(torch.jit.script(model)(inputs()), model(inputs()))


def _fx(layer: Layer) -> float:
    model = Model(layer)
    traced = torch.fx.symbolic_trace(model)
    assert [n.op for n in traced.graph.nodes][1] == "call_module"
    return apart(traced(inputs()), model(inputs()))


def _make_fx(layer: Layer) -> float:
    worst = 0.0
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(lambda v: layer(v)[0], tracing_mode=mode, _allow_non_fake_inputs=True)(
            inputs()
        )
        worst = max(worst, apart(graph(inputs()), layer(inputs())[0]))
    return worst


TRIED: dict[str, Probe] = {
    "`FakeTensorMode`": _fake,
    "`FakeTensorMode`, a layer in use": _fake_warm,
    "meta device": _meta,
    "meta device, filled later": _meta_filled,
    "`torch.compile(fullgraph=True)`, gradients": _compile,
    "`torch.compile(fullgraph=True)`, without gradients": lambda m: _compile(m, train=False),
    '`torch.compile(mode="reduce-overhead")`': lambda m: _compile(m, mode="reduce-overhead"),
    "`torch.compile(dynamic=True)`": lambda m: _compile(m, dynamic=True),
    "`torch.compile` under autocast": _compiled_autocast,
    "AOTAutograd (`aot_module`)": _aot,
    "compiled autograd": _compiled_backward,
    "`torch.export`, free steps and rows, saved": _export,
    "`torch.export(strict=True)`": lambda m: _export(m, strict=True),
    "ONNX (`sg.deploy.export`)": _onnx,
    "`torch.jit.trace`, other sizes": _jit,
    "`torch.jit.script`": _script,
    "`torch.fx.symbolic_trace`": _fx,
    "`make_fx`, real, fake and symbolic": _make_fx,
}
