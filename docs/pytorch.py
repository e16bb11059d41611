"""The page of what torch can do to a layer: ``python -m docs.pytorch`` tries it and writes it."""

import copy
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import steadygrad as sg

PAGE = Path(__file__).with_suffix(".md")
TOP = """\
# What PyTorch can do to a layer

<!-- Made by `python -m docs.pytorch`; edit docs/pytorch.py instead. -->

Tried on `sg.LSTM` and `nn.LSTM` with torch {torch} on a CPU. A number is the largest difference
from plain calls of the same layer one by one, in float64 (in float32 for compiled and exported
graphs); else stands the first line of what torch or we answer.

| | `sg.LSTM` | `nn.LSTM` |
|---|---|---|
"""
END = """
Inside a graph the layer is one operator, `torch.ops.steadygrad.scan`, a call for each layer and
direction; it runs the compiled kernel, and its numbers of time steps and rows stay free. To load a
program of `torch.export` in a new process, import `steadygrad.scan` first. A cell of your own goes
along if its class stands at the top of a module that can be imported.

- `torch.compile`: one graph, with `resets`, `lengths` (a tensor), `burn_in`, `truncate`,
  `checkpoint` and a `loop_clip` in it. The pieces of `truncate` and `checkpoint` stand in the graph
  one by one, so another number of time steps compiles anew; else steps and rows stay free. The
  graph breaks at the layer (`fullgraph=True` says so) if a watch is on it, or the call has a
  `PackedSequence`, whose number of rows only its values tell: give `lengths=` instead.
- Functional transforms, batches of gradients, fake tensors and traces do not report to a watch: a
  backward pass under them is not seen, and counts as not measured.
- `torch.func.vmap` over inputs folds into the batch. Over weights, and for gradients of weights by
  sample, it is a loop over samples.
- Forward-mode derivatives and derivatives of derivatives run the steps in torch's own operations.
- Under `autocast` output and state have its dtype, as those of `nn.LSTM`; inside, everything is
  computed in the dtype of the weights.
- `torch.fx.symbolic_trace` takes the layers for leaves, as it does torch's.
- `torch.jit.script` reads the source of a layer, and what runs here is made from a cell: put
  `layer.to_torch()` in its place, or use `torch.jit.trace`, which takes the layer as it is.
- `torch.ao.quantization` converts torch's own classes alone and the layer says so; see
  `steadygrad.nn.quantise_`, or put `layer.to_torch()` in its place.

## Export

```python
import steadygrad as sg

done = sg.deploy.export(sg.LSTM(3, 8), "layer.onnx", states=True)
print(done)  # shows inputs, outputs, which sizes are free, and the error that was measured
```

`.onnx` and `.pt2`, of a layer (also of `torch.nn`), a model around layers, or the folder of a run
(`steadygrad export RUN model.onnx`). LSTM, GRU and RNN become ONNX's operators of these names;
every other cell becomes a Scan whose body is made from the cell's equations. `states=True` makes
the state an input and an output, for streams; `lengths=True` takes rows of several lengths;
`resets=True` takes where segments of the rows begin, and makes every cell a Scan, as ONNX's own
operators cannot do that. The file is run in ONNX Runtime at two sizes before it is put in its
place, and refused above an error of 1e-5. ONNX needs `pip install steadygrad[onnx]`.
"""

Layer = Any
STEPS, ROWS, INPUTS, UNITS = 5, 3, 4, 6


def _x() -> Tensor:
    return torch.linspace(-1, 1, STEPS * ROWS * INPUTS, dtype=torch.float64).view(STEPS, ROWS, -1)


def _loss(layer: Layer, x: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
    own = dict(layer.named_parameters()) if weights is None else weights
    return functional_call(layer, own, (x,))[0].sin().sum()


def _gradients(layer: Layer, x: Tensor) -> dict[str, Tensor]:
    names, values = zip(*layer.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(_loss(layer, x), values), strict=True))


def _apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    return max(float((found[n] - expected[n]).abs().max()) for n in expected)


def _grad(layer: Layer) -> float:
    weights = {n: p.detach() for n, p in layer.named_parameters()}
    return _apart(grad(lambda w: _loss(layer, _x(), w))(weights), _gradients(layer, _x()))


def _per_sample(layer: Layer) -> float:
    weights, x = {n: p.detach() for n, p in layer.named_parameters()}, _x()
    each = vmap(grad(lambda w, v: _loss(layer, v.unsqueeze(1), w)), (None, 1))(weights, x)
    own = [_gradients(layer, x[:, i : i + 1]) for i in range(ROWS)]
    return _apart(each, {n: torch.stack([g[n] for g in own]) for n in each})


def _vmap(layer: Layer) -> float:
    many = torch.stack([_x(), 2 * _x()])
    found = vmap(lambda v: layer(v)[0])(many)
    return float((found - torch.stack([layer(v)[0] for v in many])).abs().max())


def _by_input(layer: Layer, value: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    inner = _x().requires_grad_()
    return torch.autograd.grad((value(inner) * weight).sum(), inner)[0]


def _vjp(layer: Layer) -> float:
    output, pull = vjp(lambda v: layer(v)[0], _x())[:2]
    weight = torch.ones_like(output)
    return float((pull(weight)[0] - _by_input(layer, lambda v: layer(v)[0], weight)).abs().max())


def _jacrev(layer: Layer) -> float:
    rows = jacrev(lambda v: layer(v)[0].sum((0, 1)))(_x())
    unit = torch.eye(UNITS, dtype=torch.float64)
    own = [_by_input(layer, lambda v: layer(v)[0].sum((0, 1)), unit[k]) for k in range(UNITS)]
    return float((rows - torch.stack(own)).abs().max())


def _jvp(layer: Layer) -> float:
    step = 1e-6
    found = jvp(lambda v: layer(v)[0], (_x(),), (_x(),))[1]
    ends = [layer(_x() * (1 + sign * step))[0] for sign in (1, -1)]
    return float((found - (ends[0] - ends[1]) / (2 * step)).abs().max())


def _hessian(layer: Layer) -> float:
    x = _x()[:2, :1]
    found = hessian(lambda v: _loss(layer, v))(x)
    return float((found - jacrev(jacrev(lambda v: _loss(layer, v)))(x)).abs().max())


def _batched(layer: Layer) -> float:
    x = _x().requires_grad_()
    output = layer(x)[0]
    many = torch.stack([torch.ones_like(output), output.detach()])
    (found,) = torch.autograd.grad(output, x, many, retain_graph=True, is_grads_batched=True)
    own = [torch.autograd.grad(output, x, g, retain_graph=True)[0] for g in many]
    return float((found - torch.stack(own)).abs().max())


def _anomaly(layer: Layer) -> float:
    plain = _gradients(layer, _x())
    with torch.autograd.set_detect_anomaly(True):
        return _apart(_gradients(layer, _x()), plain)


def _flops(layer: Layer) -> str:
    with FlopCounterMode(display=False) as counter:
        _gradients(layer, _x())
    count, gates = counter.get_total_flops(), 4 * UNITS
    forward = 2 * STEPS * ROWS * gates * (INPUTS + UNITS)
    whole = forward + 2 * STEPS * ROWS * gates * (INPUTS + 2 * UNITS)
    return "all counted" if count == whole else f"{count} of {whole} counted"


def _fake(layer: Layer) -> str:
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = type(layer)(INPUTS, UNITS)
        output = made(torch.randn(STEPS, ROWS, INPUTS))[0]
        output.sum().backward()
    return f"shape {tuple(output.shape)}, gradients too"


def _meta(layer: Layer) -> str:
    made = type(layer)(INPUTS, UNITS, device="meta")
    return f"shape {tuple(made(torch.zeros(STEPS, ROWS, INPUTS, device='meta'))[0].shape)}"


class _Model(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = type(layer)(INPUTS, UNITS).eval()
        self.layer.load_state_dict(layer.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def _compile(layer: Layer) -> float:
    torch._dynamo.reset()
    model = _Model(layer)
    compiled: Any = torch.compile(model, fullgraph=True)
    x = _x().float()
    names, values = zip(*model.named_parameters(), strict=True)
    found, own = (torch.autograd.grad(run(x).sin().sum(), values) for run in (compiled, model))
    return _apart(dict(zip(names, found, strict=True)), dict(zip(names, own, strict=True)))


def _export(layer: Layer) -> float:
    model, x = _Model(layer), _x().float()
    sizes = {0: torch.export.Dim("time", min=2), 1: torch.export.Dim("batch", min=2)}
    program = torch.export.export(model, (x,), dynamic_shapes=(sizes,))
    other = torch.randn(9, 2, INPUTS)
    return float((program.module()(other) - model(other)).abs().max())


def _onnx(layer: Layer) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return sg.deploy.export(_Model(layer).layer, Path(folder, "layer.onnx"), states=True).error


def _jit(layer: Layer) -> float:
    model = _Model(layer)
    traced: Any = torch.jit.trace(model, (_x().float(),))
    other = torch.randn(9, 2, INPUTS)
    return float((traced(other) - model(other)).abs().max())


def _autocast(layer: Layer) -> str:
    model, x = _Model(layer), _x().float()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x)
    output.float().sum().backward()
    return f"output {str(output.dtype).removeprefix('torch.')}"


def _in_place(layer: Layer) -> float:
    plain = _gradients(layer, _x())
    output = layer(_x())[0]
    names, values = zip(*layer.named_parameters(), strict=True)
    loss = output.mul_(1.0).sin().sum()
    return _apart(dict(zip(names, torch.autograd.grad(loss, values), strict=True)), plain)


def _quantised(layer: Layer) -> str:
    model = nn.Sequential(type(layer)(INPUTS, UNITS))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kinds = {nn.LSTM, type(layer)}
        made = torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)[0]
    if type(made) is type(layer):
        said = [str(w.message) for w in told if "steadygrad" in str(w.message)]
        return f"refused: {said[0]}" if said else "left in floating point without a word"
    return "int8"


class _Unpacking(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.layer(x)
        return output


def _fx(layer: Layer) -> float:
    traced = torch.fx.symbolic_trace(_Unpacking(layer))
    assert [n.op for n in traced.graph.nodes][1] == "call_module"
    return float((traced(_x()) - layer(_x())[0]).abs().max())


def _script(layer: Layer) -> float:
    model = _Unpacking(layer)
    return float((torch.jit.script(model)(_x()) - model(_x())).abs().max())


def _recomputed(layer: Layer) -> float:
    def run(x: Tensor) -> Tensor:
        output = checkpoint(lambda v: layer(v)[0], x, use_reentrant=False)
        assert isinstance(output, Tensor)
        return output

    weight = torch.ones(STEPS, ROWS, UNITS, dtype=torch.float64)
    plain = _by_input(layer, lambda v: layer(v)[0], weight)
    return float((_by_input(layer, run, weight) - plain).abs().max())


def _hooks(layer: Layer) -> str:
    said: list[str] = []
    layer.register_forward_pre_hook(lambda *_: said.append("before"))
    layer.register_forward_hook(lambda *_: said.append("after"))
    layer.register_full_backward_pre_hook(lambda _, grads: said.append(f"{len(grads)} in"))
    layer.register_full_backward_hook(lambda _, out, grads: said.append(f"{len(out)} out"))
    layer(_x().requires_grad_())[0].sum().backward()
    return ", ".join(said)


def _weight_norm(layer: Layer) -> float:
    plain = layer(_x())[0]
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    output = layer(_x())[0]
    output.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    return float((output - plain).abs().max())


def _pruned(layer: Layer) -> float:
    prune.l1_unstructured(layer, "weight_hh_l0", 0.5)
    output = layer(_x())[0]
    prune.remove(layer, "weight_hh_l0")
    return float((layer(_x())[0] - output).abs().max())


def _copies(layer: Layer) -> float:
    made = (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)))
    return max(float((m(_x())[0] - layer(_x())[0]).abs().max()) for m in made)


TRIED: dict[str, Callable[[Layer], float | str]] = {
    "`torch.func.grad`": _grad,
    "gradients by sample (`vmap` of `grad`)": _per_sample,
    "`torch.func.vmap`": _vmap,
    "`torch.func.vjp`": _vjp,
    "`torch.func.jacrev`": _jacrev,
    "`torch.func.jvp`": _jvp,
    "`torch.func.hessian`": _hessian,
    "`is_grads_batched`": _batched,
    "`set_detect_anomaly`": _anomaly,
    "`FlopCounterMode`": _flops,
    "`FakeTensorMode`": _fake,
    "meta device": _meta,
    "`torch.compile(fullgraph=True)`, gradients": _compile,
    "`torch.export`, free steps and rows": _export,
    "ONNX (`sg.deploy.export`)": _onnx,
    "`torch.jit.trace`, other sizes": _jit,
    "`torch.jit.script`": _script,
    "`torch.fx.symbolic_trace`": _fx,
    "`torch.utils.checkpoint`": _recomputed,
    "hooks": _hooks,
    "`parametrizations.weight_norm`": _weight_norm,
    "`prune.l1_unstructured`": _pruned,
    "`deepcopy`, `pickle`": _copies,
    "autocast, bfloat16": _autocast,
    "output changed in place": _in_place,
    "`quantize_dynamic`": _quantised,
}


def tried(what: str, kind: type[nn.Module]) -> str:
    """Do one thing to a layer; say how it went, in one line."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer: Layer = kind(INPUTS, UNITS)
        try:
            found = TRIED[what](layer.double() if "compile" not in what else layer)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            said = shorten(lines[0].replace("|", "/"), 150, placeholder=" ...")
            return f"refused: {said}"
    return found if isinstance(found, str) else f"{found:.0e}"


def page() -> str:
    """The whole page."""
    rows = [f"| {what} | {tried(what, sg.LSTM)} | {tried(what, nn.LSTM)} |" for what in TRIED]
    return TOP.format(torch=torch.__version__.partition("+")[0]) + "\n".join(rows) + "\n" + END


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
