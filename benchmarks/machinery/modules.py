"""What a module is asked for: weights, copies, dtypes, odd inputs, parametrisations, precision."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.machinery.layers import (
    INPUTS,
    ROWS,
    STEPS,
    UNITS,
    Layer,
    Model,
    Probe,
    apart,
    collected,
    fresh,
    gradients,
    inputs,
    loss,
    name,
    parts,
    single,
    twin,
)


def _both_ways(layer: Layer) -> float:
    """State dicts to and from torch's own layer, by copy and by assignment."""
    other = twin(layer)
    expected = layer(inputs())[0]
    worst = apart(other(inputs())[0], expected)
    for assign in (False, True):
        for one, another in ((layer, twin(layer)), (twin(layer), layer)):
            made = type(another)(INPUTS, UNITS).double()
            made.load_state_dict(one.state_dict(), assign=assign)
            worst = max(worst, apart(made(inputs())[0], expected))
            apart(gradients(made, inputs()), gradients(layer, inputs()))
    return worst


def _missing(layer: Layer) -> str:
    state = layer.state_dict()
    del state["bias_hh_l0"]
    state["other"] = torch.zeros(1)
    found = fresh(layer).double().load_state_dict(state, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["bias_hh_l0"], ["other"])
    try:
        fresh(layer).load_state_dict({**layer.state_dict(), "weight_ih_l0": torch.zeros(2, 2)})
    except RuntimeError as error:
        return str(error).splitlines()[1].strip().partition(":")[0]
    return "a wrong shape was taken"


def _copies(layer: Layer) -> float:
    layer(inputs())
    made = [copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))]
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    made.append(torch.load(file, weights_only=False))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = fresh(layer).double()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    return max(apart(m(inputs())[0], layer(inputs())[0]) for m in (*made, loaded))


def _swapped(layer: Layer) -> float:
    """Conversions that swap the tensors' contents instead of setting `data`."""
    expected = layer(inputs())[0].detach()
    kept = layer.weight_hh_l0
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.float().double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert kept is layer.weight_hh_l0
    return 0.0 if apart(layer(inputs())[0], expected) < 1e-6 else 1.0


def _shared(layer: Layer) -> float:
    """One weight in two layers, and a weight that is the view of another tensor."""
    other = fresh(layer).double()
    other.weight_hh_l0 = layer.weight_hh_l0
    block = torch.cat([layer.weight_ih_l0, layer.weight_hh_l0], 1).detach()
    with torch.no_grad():
        layer.weight_ih_l0.set_(block[:, :INPUTS])
    expected = twin(layer)(inputs())[0]
    return apart(layer(inputs())[0], expected) if other.weight_hh_l0 is layer.weight_hh_l0 else 1.0


def _default_dtype(layer: Layer) -> str:
    torch.set_default_dtype(torch.float64)
    try:
        made = fresh(layer)
        output, last = made(inputs())
    finally:
        torch.set_default_dtype(torch.float32)
    kinds = {p.dtype for p in made.parameters()} | {output.dtype, *(s.dtype for s in parts(last))}
    return ", ".join(sorted(str(k).removeprefix("torch.") for k in kinds))


def _default_device(layer: Layer) -> float:
    expected = layer(inputs())[0]
    torch.set_default_device("meta")
    try:
        made = fresh(layer)
        found = layer(inputs_on_cpu := expected.new_tensor(inputs_list(), device="cpu"))[0]
        assert inputs_on_cpu.device.type == "cpu"
    finally:
        torch.set_default_device(None)
    assert made.weight_hh_l0.is_meta
    return apart(found, expected)


def inputs_list() -> list[Any]:
    """The input as numbers, made on the CPU whatever the default is."""
    with torch.device("cpu"):
        return inputs().tolist()


def _dtype(layer: Layer, dtype: torch.dtype) -> str:
    made, exact = copy.deepcopy(layer).to(dtype), layer(inputs())[0]
    output, last = made(inputs().to(dtype))
    output.sum().backward()
    assert {output.dtype, *(s.dtype for s in parts(last))} == {dtype}
    assert all(g.dtype == dtype for g in collected(made).values())
    difference = apart(output, exact)
    return f"error {difference:.0e} of float64" if difference < 0.05 else f"OFF by {difference}"


def _autocast(layer: Layer, dtype: torch.dtype) -> str:
    """Dtypes of output, state and gradients; errors of values and gradients."""
    model, exact = single(layer), gradients(layer, inputs())
    output_exact = layer(inputs())[0]
    # oneDNN has no LSTM in 16 bits on many processors.
    with torch.backends.mkldnn.flags(enabled=False), torch.autocast("cpu", dtype):
        output, last = model(inputs().float())
        again = model(inputs().float(), last)[0]
    output.float().sin().sum().backward()
    kinds = {output.dtype, again.dtype, *(s.dtype for s in parts(last))}
    assert {g.dtype for g in collected(model).values()} == {torch.float32}
    scale = max(float(g.abs().max()) for g in exact.values())
    values, slopes = apart(output, output_exact), apart(collected(model), exact) / scale
    told = ", ".join(sorted(str(k).removeprefix("torch.") for k in kinds))
    return f"{told}; errors {values:.0e}, gradients {slopes:.0e}"


def _autocast_mixed(layer: Layer) -> str:
    """Weights in another dtype of 16 bits, double weights, states in float32."""
    said = []
    state = torch.zeros(1, ROWS, UNITS)
    hx = (state, state) if name(layer) == "LSTM" else state
    with torch.backends.mkldnn.flags(enabled=False), torch.autocast("cpu", torch.bfloat16):
        said.append(layer(inputs())[0].dtype)
        said.append(single(layer).bfloat16()(inputs().bfloat16())[0].dtype)
        said.append(single(layer).half()(inputs().half())[0].dtype)
        said.append(single(layer)(inputs().bfloat16(), hx)[0].dtype)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            single(layer)(inputs())
    except (RuntimeError, ValueError):
        return ", ".join(str(k).removeprefix("torch.") for k in said) + "; double input refused"
    return "double input taken by weights in float32"


def _wrong_dtype(layer: Layer) -> str:
    try:
        single(layer)(inputs())
    except (RuntimeError, ValueError) as error:
        return "refused: " + str(error).splitlines()[0]
    return "taken"


def _no_rows(layer: Layer) -> str:
    x = inputs()[:, :0].requires_grad_()
    output, last = layer(x)
    output.sum().backward()
    assert output.shape == (STEPS, 0, UNITS) and parts(last)[0].shape == (1, 0, UNITS)
    assert all(float(g.abs().sum()) == 0 for g in collected(layer).values())
    return "shape (5, 0, 6), gradients zero"


def _no_steps(layer: Layer) -> float:
    return apart(layer(inputs()[:0])[0], inputs()[:0])


class _Counting(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Seeing(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _modes(layer: Layer) -> float:
    plain, worst = gradients(layer, inputs()), 0.0
    for mode in (_Counting(), _Seeing()):
        with mode:
            worst = max(worst, apart(gradients(layer, inputs()), plain))
    return worst


class _Named(Tensor):
    """A subclass that computes as its parent does."""


def _subclass(layer: Layer) -> float:
    return apart(layer(inputs().as_subclass(_Named))[0].as_subclass(Tensor), layer(inputs())[0])


def _laid_otherwise(layer: Layer) -> float:
    """Views: permuted, strided, flipped, expanded, negated by a flag, a Parameter."""
    x = inputs()
    wide = torch.zeros(STEPS, ROWS, 2 * INPUTS, dtype=x.dtype)
    wide[..., ::2] = x
    views = [
        (x.transpose(0, 1).contiguous().transpose(0, 1), x),
        (x.permute(2, 1, 0).contiguous().permute(2, 1, 0), x),
        (wide[..., ::2], x),
        (x[:1].expand(STEPS, -1, -1), x[:1].repeat(STEPS, 1, 1)),
        (torch.complex(x, -x).conj().imag, x),
        (nn.Parameter(x), x),
        (torch.view_as_real(torch.complex(x[..., ::2], x[..., 1::2])).flatten(2), x),
    ]
    worst = 0.0
    for _ in range(3):  # the third goes the way of layers in use
        worst = max(worst, *(apart(layer(view)[0], layer(plain)[0]) for view, plain in views))
    return worst


def _odd(layer: Layer, make: Callable[[Tensor], Any]) -> str:
    output = layer(make(inputs()))[0]
    return f"{type(output).__name__}, {output.layout}"


def _weight(layer: Layer, function: Callable[..., Any], is_same: bool, **options: Any) -> str:
    """A weight that is computed; its output beside torch's layer with the weight as it is now."""
    plain = layer(inputs())[0]
    layer.double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(layer, "weight_hh_l0", **options)
    output = layer(inputs())[0]
    output.sum().backward()
    collected(layer)
    now = getattr(nn, name(layer))(INPUTS, UNITS).double()
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    now.load_state_dict({n: getattr(layer, n).detach() for n in names})
    layer.eval()
    difference = apart(layer(inputs())[0], now(inputs())[0])
    if difference > 1e-9:
        return f"NOT the weight that stands there, by {difference:.0e}"
    return f"{apart(output, plain):.0e}" if is_same else "as torch's layer with this weight"


def _cached(layer: Layer) -> float:
    plain = layer(inputs())[0]
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with parametrize.cached():
        layer(inputs())
        found = layer(inputs())[0]
    return apart(found, plain)


def _pruned(layer: Layer) -> float:
    prune.l1_unstructured(layer, "weight_hh_l0", 0.5)
    prune.global_unstructured([(layer, "weight_ih_l0")], prune.L1Unstructured, amount=0.3)
    output = layer(inputs())[0]
    worst = apart(output, pickle.loads(pickle.dumps(layer))(inputs())[0])
    prune.remove(layer, "weight_hh_l0")
    prune.remove(layer, "weight_ih_l0")
    return max(worst, apart(layer(inputs())[0], output), apart(twin(layer)(inputs())[0], output))


def _stateless(layer: Layer) -> float:
    from torch.nn.utils.stateless import functional_call as older

    weights = {n: p.detach() * 0.5 for n, p in layer.named_parameters()}
    other = copy.deepcopy(layer)
    other.load_state_dict(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = older(layer, weights, (inputs(),))[0]
    return max(
        apart(found, other(inputs())[0]),
        apart(torch.func.functional_call(layer, weights, (inputs(),))[0], other(inputs())[0]),
    )


def _quantised(layer: Layer) -> str:
    model = nn.Sequential(single(layer))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kinds = {type(twin(layer)), type(layer)}
        made = torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)[0]
    if type(made) is type(layer):
        said = [str(w.message) for w in told if "steadygrad" in str(w.message)]
        return f"refused: {said[0]}" if said else "left in floating point without a word"
    return "int8"


def _hooks(layer: Layer) -> str:
    said: list[str] = []
    layer.register_forward_pre_hook(lambda *_: said.append("before"))
    layer.register_forward_hook(lambda *_: said.append("after"))
    layer.register_full_backward_pre_hook(lambda _, grads: said.append(f"{len(grads)} in"))
    layer.register_full_backward_hook(lambda _, out, grads: said.append(f"{len(out)} out"))
    layer(inputs().requires_grad_())[0].sum().backward()
    return ", ".join(said)


def _hooked_weights(layer: Layer) -> float:
    """A pre-hook that sets the weight anew at each call, as weight dropping does."""
    raw = nn.Parameter(layer.weight_hh_l0.detach().clone())
    expected = gradients(layer, inputs())["weight_hh_l0"]
    del layer._parameters["weight_hh_l0"]
    layer.raw = raw
    layer.register_forward_pre_hook(lambda m, _: setattr(m, "weight_hh_l0", m.raw * 1.0))
    for _ in range(3):
        raw.grad = None
        layer(inputs())[0].sin().sum().backward()
    assert raw.grad is not None
    return apart(raw.grad, expected)


def _replaced(layer: Layer) -> float:
    """Weights set anew and changed through `data`, between calls of a layer in use."""
    for _ in range(3):
        layer(inputs())
    layer.weight_hh_l0.data = layer.weight_hh_l0.data * 0.5
    layer.weight_ih_l0.data.mul_(2)
    first = apart(layer(inputs())[0], twin(layer)(inputs())[0])
    layer.weight_hh_l0 = nn.Parameter(layer.weight_hh_l0.detach() + 0.1)
    return max(first, apart(layer(inputs())[0], twin(layer)(inputs())[0]))


def _surface(layer: Layer) -> str:
    other = twin(layer)
    missing = sorted(set(dir(other)) - set(dir(layer)))
    assert [n for n, _ in layer.named_parameters()] == [n for n, _ in other.named_parameters()]
    assert repr(layer) == repr(other), (repr(layer), repr(other))
    assert isinstance(layer, nn.RNNBase)
    return f"lacks {', '.join(missing)}" if missing else "every name, the same `repr`"


def _converted(layer: Layer) -> float:
    made = copy.deepcopy(layer).float().half().to(torch.float64).cpu().requires_grad_(True)
    made.share_memory()
    made.flatten_parameters()
    return apart(made.train()(inputs())[0], twin(made)(inputs())[0])


def _in_model(layer: Layer) -> float:
    model = nn.ModuleList([Model(layer), nn.Identity()])
    model.apply(lambda m: None)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in layer.parameters())
    return apart(loss(model[0].layer, inputs()), loss(layer, inputs()))


def _to_sparse(x: Tensor) -> Tensor:
    return x.to_sparse()


def _nested(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor(list(x.unbind(1)), layout=torch.jagged)


TRIED: dict[str, Probe] = {
    "the names of the class": _surface,
    "`load_state_dict` from and to the other, `assign=True`": _both_ways,
    "`load_state_dict`, what does not fit": _missing,
    "`deepcopy`, `pickle`, `torch.save` whole": _copies,
    "`set_swap_module_params_on_conversion`": _swapped,
    "weights shared, or views of a block": _shared,
    "weights replaced, and changed through `data`": _replaced,
    "conversions in a row": _converted,
    "in a model": _in_model,
    "`functional_call`": _stateless,
    "`set_default_dtype(float64)`": _default_dtype,
    "`set_default_device`": _default_device,
    "bfloat16": lambda layer: _dtype(layer, torch.bfloat16),
    "float16": lambda layer: _dtype(layer, torch.float16),
    "autocast, bfloat16": lambda layer: _autocast(layer, torch.bfloat16),
    "autocast, float16": lambda layer: _autocast(layer, torch.float16),
    "autocast over double, bfloat16 and mixed": _autocast_mixed,
    "input of another dtype": _wrong_dtype,
    "a batch of none": _no_rows,
    "no time step": _no_steps,
    "views as input": _laid_otherwise,
    "function and dispatch modes": _modes,
    "a subclass of Tensor": _subclass,
    "a sparse input": lambda layer: _odd(layer, _to_sparse),
    "a nested input": lambda layer: _odd(layer, _nested),
    "a complex input": lambda layer: _odd(layer, lambda x: x.to(torch.complex128)),
    "hooks of modules": _hooks,
    "a weight that a hook makes": _hooked_weights,
    "`parametrizations.weight_norm`": lambda m: _weight(m, parametrizations.weight_norm, True),
    "`parametrizations.spectral_norm`": lambda m: _weight(m, parametrizations.spectral_norm, False),
    "`parametrizations.orthogonal`": lambda m: _weight(m, parametrizations.orthogonal, False),
    "`parametrize.cached`": _cached,
    "`nn.utils.weight_norm`": lambda m: _weight(m, torch.nn.utils.weight_norm, True),
    "`nn.utils.spectral_norm`": lambda m: _weight(m, torch.nn.utils.spectral_norm, False),
    "`prune`": _pruned,
    "`quantize_dynamic`": _quantised,
}
