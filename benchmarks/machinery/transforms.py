"""Functional transforms, and all that reads or drives autograd."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machinery.layers import (
    INPUTS,
    ROWS,
    STEPS,
    UNITS,
    Layer,
    Probe,
    apart,
    by_input,
    collected,
    fresh,
    gradients,
    inputs,
    loss,
    name,
    values,
)


def _grad(layer: Layer) -> float:
    found = grad(lambda w: loss(layer, inputs(), w))(values(layer))
    return apart(found, gradients(layer, inputs()))


def _per_sample(layer: Layer) -> float:
    x = inputs()
    each = vmap(grad(lambda w, v: loss(layer, v.unsqueeze(1), w)), (None, 1))(values(layer), x)
    own = [gradients(layer, x[:, i : i + 1]) for i in range(ROWS)]
    return apart(each, {n: torch.stack([g[n] for g in own]) for n in each})


def _expanded(layer: Layer) -> float:
    from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

    module = type(layer)(INPUTS, UNITS, batch_first=True).double()
    module.load_state_dict(layer.state_dict())
    x = inputs().transpose(0, 1).contiguous()
    call: Any = call_for_per_sample_grads(module, loss_reduction="sum")
    call(x)[0].sin().sum().backward()
    found = {n: p.grad_sample for n, p in module.named_parameters()}
    own = [gradients(module, x[i : i + 1]) for i in range(ROWS)]
    return apart(found, {n: torch.stack([g[n] for g in own]) for n in found})


def _vmap(layer: Layer) -> float:
    many = torch.stack([inputs(), 2 * inputs()])
    return apart(vmap(lambda v: layer(v)[0])(many), torch.stack([layer(v)[0] for v in many]))


def _ensemble(layer: Layer) -> float:
    members = [layer, fresh(layer).double()]
    weights, buffers = stack_module_state(members)
    found = vmap(lambda w, b, v: functional_call(layer, (w, b), (v,))[0], (0, 0, None))(
        weights, buffers, inputs()
    )
    return apart(found, torch.stack([m(inputs())[0] for m in members]))


def _vjp(layer: Layer) -> float:
    output, pull = vjp(lambda v: layer(v)[0], inputs())[:2]
    weight = torch.ones_like(output)
    return apart(pull(weight)[0], by_input(lambda v: layer(v)[0], weight))


def _jacrev(layer: Layer) -> float:
    rows = jacrev(lambda v: layer(v)[0].sum((0, 1)))(inputs())
    unit = torch.eye(UNITS, dtype=torch.float64)
    own = [by_input(lambda v: layer(v)[0].sum((0, 1)), unit[k]) for k in range(UNITS)]
    return apart(rows, torch.stack(own))


def _jacfwd(layer: Layer) -> float:
    def function(v: Tensor) -> Tensor:
        return layer(v)[0].sum((0, 1))

    return apart(jacfwd(function)(inputs()), jacrev(function)(inputs()))


def _central(layer: Layer) -> Tensor:
    step = 1e-5
    ends = [layer(inputs() * (1 + sign * step))[0].detach() for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def _jvp(layer: Layer) -> float:
    return apart(jvp(lambda v: layer(v)[0], (inputs(),), (inputs(),))[1], _central(layer))


def _linearize(layer: Layer) -> float:
    return apart(linearize(lambda v: layer(v)[0], inputs())[1](inputs()), _central(layer))


def _dual(layer: Layer) -> float:
    with forward_ad.dual_level():
        output = layer(forward_ad.make_dual(inputs(), inputs()))[0]
        tangent = forward_ad.unpack_dual(output).tangent
    assert tangent is not None
    return apart(tangent, _central(layer))


def _hessian(layer: Layer) -> float:
    x = inputs()[:2, :1]
    found = hessian(lambda v: loss(layer, v))(x)
    return apart(found, jacrev(jacrev(lambda v: loss(layer, v)))(x))


def _functional_hessian(layer: Layer) -> float:
    from torch.autograd.functional import hessian as plain

    def function(v: Tensor) -> Tensor:
        return layer(v)[0].sin().sum()

    x = inputs()[:2, :1]
    vectorised = plain(function, x, vectorize=True)
    assert isinstance(vectorised, Tensor)
    return apart(vectorised, plain(function, x))


def _gradcheck(layer: Layer) -> str:
    x = inputs(3, 2).requires_grad_()
    torch.autograd.gradcheck(lambda v: layer(v)[0], x)
    torch.autograd.gradgradcheck(lambda v: layer(v)[0], x)
    return "passes"


def _batched(layer: Layer) -> float:
    x = inputs().requires_grad_()
    output = layer(x)[0]
    many = torch.stack([torch.ones_like(output), output.detach()])
    (found,) = torch.autograd.grad(output, x, many, retain_graph=True, is_grads_batched=True)
    own = [torch.autograd.grad(output, x, g, retain_graph=True)[0] for g in many]
    return apart(found, torch.stack(own))


def _penalty(layer: Layer) -> float:
    """The gradient of a norm of the gradient, beside that of a difference quotient."""
    x = inputs().requires_grad_()
    first = torch.autograd.grad(layer(x)[0].sin().sum(), x, create_graph=True)[0]
    second = torch.autograd.grad((first * inputs()).sum(), x)[0]

    def slope(scale: float) -> Tensor:
        v = (inputs() * scale).requires_grad_()
        return torch.autograd.grad(layer(v)[0].sin().sum(), v)[0]

    return apart(second, (slope(1 + 1e-5) - slope(1 - 1e-5)) / 2e-5)


def _anomaly(layer: Layer) -> float:
    plain = gradients(layer, inputs())
    with torch.autograd.set_detect_anomaly(True):
        return apart(gradients(layer, inputs()), plain)


def _anomaly_cold(layer: Layer) -> float:
    made = fresh(layer, num_layers=2).double()
    with torch.autograd.set_detect_anomaly(True):
        first = gradients(made, inputs())
    return apart(first, gradients(made, inputs()))


def _flops(layer: Layer) -> str:
    with FlopCounterMode(display=False) as counter:
        gradients(layer, inputs())
    count, gates = counter.get_total_flops(), layer.weight_ih_l0.shape[0]
    forward = 2 * STEPS * ROWS * gates * (INPUTS + UNITS)
    whole = forward + 2 * STEPS * ROWS * gates * (INPUTS + 2 * UNITS)
    return "all counted" if count == whole else f"{count} of {whole} counted"


def _profiler(layer: Layer) -> str:
    with torch.profiler.profile(record_shapes=True, with_flops=True) as profile:
        loss(layer, inputs()).backward()
    names = {e.key for e in profile.key_averages()}
    own = [n for n in names if n.startswith(("steadygrad", "aten::lstm", "aten::gru", "aten::rnn"))]
    return f"shows `{min(own)}`" if own else "shows products and functions alone"


def _recomputed(layer: Layer, **options: Any) -> float:
    def run(x: Tensor) -> Tensor:
        output = checkpoint(lambda v: layer(v)[0], x, **options)
        assert isinstance(output, Tensor)
        return output

    plain = gradients(layer, inputs())
    layer.zero_grad()
    run(inputs().requires_grad_()).sin().sum().backward()
    return apart(collected(layer), plain)


def _selective(layer: Layer) -> float:
    def contexts() -> Any:
        return create_selective_checkpoint_contexts([torch.ops.aten.mm.default])

    return _recomputed(layer, use_reentrant=False, context_fn=contexts)


def _saved_elsewhere(layer: Layer) -> float:
    plain = gradients(layer, inputs())
    with torch.autograd.graph.save_on_cpu():
        found = gradients(layer, inputs())
    return apart(found, plain)


def _twice(layer: Layer) -> str:
    value = loss(layer, inputs())
    value.backward(retain_graph=True)
    once = collected(layer)
    value.backward()
    again = apart(collected(layer), {n: 2 * g for n, g in once.items()})
    assert again == 0, again
    try:
        value.backward()
    except RuntimeError as error:
        assert "second time" in str(error), error
        return "a second is refused without `retain_graph`"
    return "a third backward pass went through"


def _changed(layer: Layer, what: str) -> str:
    """Change what the backward pass reads: torch counts versions, and must find it."""
    x, hx = inputs().requires_grad_(), [torch.zeros(1, ROWS, UNITS, dtype=torch.float64)] * 2
    x, state = x * 1, tuple(h.clone() for h in hx)
    output = layer(x, state if name(layer) == "LSTM" else state[0])[0]
    changed = {"input": x, "weight": layer.weight_hh_l0, "state": state[0]}[what]
    with torch.no_grad():
        changed.mul_(2)
    try:
        output.sum().backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error), error
        return "the backward pass says so"
    return "NOT NOTICED"


def _in_place(layer: Layer) -> float:
    plain = gradients(layer, inputs())
    output = layer(inputs())[0]
    names, weights = zip(*layer.named_parameters(), strict=True)
    found = torch.autograd.grad(output.mul_(1.0).sin().sum(), weights)
    return apart(dict(zip(names, found, strict=True)), plain)


def _inference(layer: Layer) -> str:
    with torch.inference_mode():
        x = inputs()
        output = layer(x)[0]
        assert output.is_inference()
    difference = apart(output.clone(), layer(inputs())[0].detach())
    assert difference == 0, difference
    try:
        layer(x)[0].sum().backward()  # an inference tensor, outside of the mode
    except RuntimeError as error:
        assert "Inference tensors cannot be saved for backward" in str(error), error
        return "its tensors are refused by a backward pass"
    return "its tensors are taken by a backward pass"


def _graph_hooks(layer: Layer) -> str:
    seen: list[str] = []
    handle = torch.autograd.graph.register_multi_grad_hook(
        list(layer.parameters()), lambda grads: seen.append(f"{len(grads)} gradients")
    )
    for p in layer.parameters():
        p.register_post_accumulate_grad_hook(lambda _: seen.append("p"))
    x = inputs().requires_grad_()
    x.register_hook(lambda g: seen.append("x"))
    loss(layer, x).backward()
    handle.remove()
    return ", ".join(sorted(set(seen)))


def _numerics(layer: Layer) -> float:
    plain = gradients(layer, inputs())
    torch.use_deterministic_algorithms(True)
    try:
        return apart(gradients(layer, inputs()), plain)
    finally:
        torch.use_deterministic_algorithms(False)


def _no_grad_weights(layer: Layer) -> str:
    for p in layer.parameters():
        p.requires_grad_(False)
    assert not layer(inputs())[0].requires_grad
    x = inputs().requires_grad_()
    layer(x)[0].sum().backward()
    assert x.grad is not None and all(p.grad is None for p in layer.parameters())
    return "only the input has a gradient"


def _functionalised(layer: Layer) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.func.functionalize(lambda v: layer(v)[0].mul_(2))(inputs())
    return apart(found, layer(inputs())[0] * 2)


TRIED: dict[str, Probe] = {
    "`torch.func.grad`": _grad,
    "gradients by sample (`vmap` of `grad`)": _per_sample,
    "gradients by sample (expanded weights)": _expanded,
    "`torch.func.vmap` over inputs": _vmap,
    "`torch.func.vmap` over weights (`stack_module_state`)": _ensemble,
    "`torch.func.vjp`": _vjp,
    "`torch.func.jacrev`": _jacrev,
    "`torch.func.jacfwd`": _jacfwd,
    "`torch.func.jvp`": _jvp,
    "`torch.func.linearize`": _linearize,
    "`torch.func.functionalize`": _functionalised,
    "`torch.autograd.forward_ad`": _dual,
    "`torch.func.hessian`": _hessian,
    "`autograd.functional.hessian`, vectorised": _functional_hessian,
    "`gradcheck`, `gradgradcheck`": _gradcheck,
    "`create_graph=True`": _penalty,
    "`is_grads_batched`": _batched,
    "`set_detect_anomaly`": _anomaly,
    "`set_detect_anomaly`, first call": _anomaly_cold,
    "`FlopCounterMode`": _flops,
    "`torch.profiler`": _profiler,
    "`torch.utils.checkpoint`": lambda layer: _recomputed(layer, use_reentrant=False),
    "`torch.utils.checkpoint`, reentrant": lambda layer: _recomputed(layer, use_reentrant=True),
    "`torch.utils.checkpoint`, selective": _selective,
    "`save_on_cpu`": _saved_elsewhere,
    "two backward passes": _twice,
    "output changed in place": _in_place,
    "weight changed before the backward pass": lambda layer: _changed(layer, "weight"),
    "input changed before the backward pass": lambda layer: _changed(layer, "input"),
    "state changed before the backward pass": lambda layer: _changed(layer, "state"),
    "`inference_mode`": _inference,
    "hooks of tensors and graphs": _graph_hooks,
    "`use_deterministic_algorithms`": _numerics,
    "weights without gradient": _no_grad_weights,
}
