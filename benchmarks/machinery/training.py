"""Optimisers, averages, and layers in several threads and processes."""

import copy
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from benchmarks.machinery.layers import (
    Layer,
    Model,
    Probe,
    apart,
    fresh,
    gradients,
    inputs,
    loss,
    twin,
)


def _trained(layer: Layer, make: Callable[[Any], torch.optim.Optimizer]) -> float:
    """Five steps, beside the same of torch's own layer."""
    weights = []
    for one in (layer, twin(layer)):
        optimizer: Any = make(one.parameters())
        for _ in range(5):

            def closure(one: Layer = one, optimizer: Any = optimizer) -> Tensor:
                optimizer.zero_grad()
                value = (one(inputs())[0] - 0.3).square().mean()
                value.backward()
                torch.nn.utils.clip_grad_norm_(one.parameters(), 0.1)
                return value

            optimizer.step(closure)
        weights.append({n: p.detach() for n, p in one.named_parameters()})
    return apart(*weights)


def _averaged(layer: Layer) -> float:
    plain, ema = AveragedModel(layer), AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    first = copy.deepcopy(layer)
    for average in (plain, ema):
        average.update_parameters(layer)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(3)
    for average in (plain, ema):
        average.update_parameters(layer)
    update_bn([inputs()], Model(layer))
    middle = copy.deepcopy(first)
    with torch.no_grad():
        for p in middle.parameters():
            p.mul_(2)
    return max(apart(a(inputs())[0], middle(inputs())[0]) for a in (plain, ema))


def _vector(layer: Layer) -> float:
    vector = parameters_to_vector(layer.parameters())
    other = fresh(layer).double()
    vector_to_parameters(vector.detach().clone(), other.parameters())
    return apart(other(inputs())[0], layer(inputs())[0])


def _step_in_backward(layer: Layer) -> float:
    """An optimiser that takes its step as each gradient arrives."""
    plain, rate = gradients(layer, inputs()), 0.1
    before = {n: p.detach().clone() for n, p in layer.named_parameters()}

    def step(p: Tensor) -> None:
        assert p.grad is not None
        with torch.no_grad():
            p.sub_(rate * p.grad)
        p.grad = None

    for p in layer.parameters():
        p.register_post_accumulate_grad_hook(step)
    loss(layer, inputs()).backward()
    return apart(
        {n: p.detach() for n, p in layer.named_parameters()},
        {n: before[n] - rate * g for n, g in plain.items()},
    )


def _threads(layer: Layer) -> float:
    plain = gradients(layer, inputs())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: gradients(layer, inputs()), range(64)))
    return max(apart(f, plain) for f in found)


@contextmanager
def _alone() -> Iterator[None]:
    """A process group of one process, on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            "gloo", init_method=f"file://{Path(folder, 'meet')}", rank=0, world_size=1
        )
        try:
            yield
        finally:
            dist.destroy_process_group()


def _parallel(layer: Layer, wrap: Callable[[nn.Module], nn.Module]) -> float:
    model = Model(layer)
    plain = list(gradients(layer, inputs()).values())
    output = model(inputs())
    with _alone():
        wrapped = wrap(model)
        found = wrapped(inputs())
        found.sin().sum().backward()
        worst = apart(found, output)
        grads = [p.grad for p in wrapped.parameters()]
        full = [getattr(g, "full_tensor", lambda g=g: g)() for g in grads]
        flat = [torch.cat([g.flatten() for g in own if g is not None]) for own in (full, plain)]
        return max(worst, apart(*flat))


def _ddp(layer: Layer) -> float:
    return _parallel(layer, nn.parallel.DistributedDataParallel)


def _ddp_static(layer: Layer) -> float:
    return _parallel(
        layer,
        lambda m: nn.parallel.DistributedDataParallel(m, static_graph=True),
    )


def _fsdp(layer: Layer) -> float:
    from torch.distributed.fsdp import FullyShardedDataParallel

    return _parallel(layer, lambda m: FullyShardedDataParallel(m, device_id=torch.device("cpu")))


def _fsdp2(layer: Layer) -> float:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def wrap(model: nn.Module) -> nn.Module:
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        return model

    return _parallel(layer, wrap)


def _data_parallel(layer: Layer) -> float:
    return apart(nn.DataParallel(Model(layer))(inputs()), layer(inputs())[0])


def _in_process(layer: Layer, queue: Any) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    queue.put(layer(inputs())[0].detach().tolist())


def _processes(layer: Layer, method: str) -> float:
    if method == "fork" and not hasattr(os, "fork"):
        return 0.0
    for _ in range(3):
        layer(inputs())[0].detach()
    context: Any = torch.multiprocessing.get_context(method)
    layer.share_memory()
    queue = context.Queue()
    process = context.Process(target=_in_process, args=(layer, queue))
    process.start()
    found = queue.get(timeout=120)
    process.join()
    # What the other process did to the weights is seen here.
    return apart(torch.tensor(found, dtype=torch.float64), layer(inputs())[0])


def _adam(layer: Layer, **options: Any) -> float:
    return _trained(layer, lambda p: torch.optim.AdamW(p, 0.1, **options))


def _muon(layer: Layer) -> float:
    return _trained(layer, lambda p: torch.optim.Muon([v for v in p if v.dim() == 2]))


def _lbfgs(layer: Layer) -> float:
    return _trained(layer, lambda p: torch.optim.LBFGS(p, max_iter=2))


TRIED: dict[str, Probe] = {
    "`optim.AdamW`, foreach": lambda layer: _adam(layer, foreach=True),
    "`optim.AdamW`, fused": lambda layer: _adam(layer, fused=True),
    "`optim.LBFGS`": _lbfgs,
    "`optim.Muon`": _muon,
    "`swa_utils.AveragedModel`, EMA": _averaged,
    "`parameters_to_vector`": _vector,
    "a step within the backward pass": _step_in_backward,
    "many threads": _threads,
    "`nn.DataParallel`": _data_parallel,
    "`DistributedDataParallel`": _ddp,
    "`DistributedDataParallel(static_graph=True)`": _ddp_static,
    "`FullyShardedDataParallel`": _fsdp,
    "`fully_shard`": _fsdp2,
    "`share_memory`, another process (spawn)": lambda layer: _processes(layer, "spawn"),
    "`share_memory`, another process (fork)": lambda layer: _processes(layer, "fork"),
}
