"""Clips over two processes: replicas (DDP) and shards (FSDP2, tensor parallel), on the CPU.

The oracle is one process that sees the whole batch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from steadygrad import ranks
from steadygrad.remedies import REMEDIES, ClipNorm, Nonfinite, Remedy
from tests.helpers import forked

WORLD = 2
STEPS = 6
# Of the loss, step by step: a spike after the warm-ups.
SCALES = (1.0, 1.2, 0.9, 1.1, 60.0, 1.0)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed"),
]


def treatments() -> dict[str, Remedy]:
    """Every remedy on gradients, with options under which it acts within a few steps."""
    found: dict[str, Remedy] = {}
    for name, kind in REMEDIES.items():
        remedy = kind()
        if remedy.acts_on_gradients:
            short = {"warmup": 3} if "warmup" in remedy.options else {}
            found[name] = kind(**short)
    found["clip-norm by layer"] = ClipNorm(0.3, "layer")
    found["clip-norm by parameter"] = ClipNorm(0.3, "parameter")
    found["clip-norm inf"] = ClipNorm(0.1, norm_type=float("inf"))
    found["clip-norm 1"] = ClipNorm(1.0, norm_type=1.0)
    return found


def network() -> nn.Module:
    torch.manual_seed(0)
    # Odd sizes: shards of different length, and a bias of one entry, which one process lacks.
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 1))


def batch(step: int) -> Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(step))


def train(
    model: nn.Module, inner: nn.Module, remedy: Remedy, rank: int | None, parts: int = 1
) -> list[Tensor]:
    """Norms before clipping, and the gradients after it, of every step.

    Args:
        model: What is called.
        inner: Whose parameters.
        remedy: At work.
        rank: Which half of the batch to see; None for the whole.
        parts: Of the batch, accumulated.
    """
    treatment = remedy.begin(inner)
    seen: list[Tensor] = []
    for step in range(STEPS):
        inner.zero_grad()
        x = batch(step) if rank is None else batch(step).chunk(WORLD)[rank]
        for part in x.chunk(parts):
            (model(part).square().mean() * SCALES[step] * 30 / parts).backward()
        report = treatment()
        seen += [report[k].double() for k in ("grad_norm", "grad_norm_clipped") if k in report]
        seen += [whole(p.grad).double() for p in inner.parameters() if p.grad is not None]
    return seen


def whole(tensor: Any) -> Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()


def compare(wrap: Callable[[nn.Module], nn.Module], rank: int) -> None:
    for name, remedy in treatments().items():
        for parts in (1, 2):
            alone = network()
            expected = train(alone, alone, remedy, None, parts)
            spread = network()
            found = train(wrap(spread), spread, remedy, rank, parts)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(
                    one, other, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
                )


def replicas(rank: int) -> None:
    compare(DistributedDataParallel, rank)


def shards(rank: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))

    def wrap(model: Any) -> nn.Module:
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    compare(wrap, rank)
    model: Any = network()
    wrap(model)
    model(batch(0).chunk(WORLD)[rank]).sum().backward()
    if rank == 1:  # broken in one process: all have to skip
        model[0].weight.grad.to_local()[0, 0] = float("nan")
    report = Nonfinite().begin(model)()
    assert report["skipped"]
    assert all(whole(p.grad).abs().sum() == 0 for p in model.parameters())


def columns(rank: int) -> None:
    """Weights split along their second dimension, as tensor parallel does, beside plain ones."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (WORLD,))
    for name, remedy in treatments().items():
        outcomes = []
        for split in (False, True):
            torch.manual_seed(0)
            tensors = [torch.randn(4, 6), torch.randn(4, 6), torch.randn(6), torch.randn(3, 4)]
            places = (Shard(1), Shard(0), Shard(0), None)
            parameters = [
                nn.Parameter(distribute_tensor(t, mesh, [p]) if split and p else t)
                for t, p in zip(tensors, places, strict=True)
            ]
            model = nn.ParameterList(parameters)
            treatment = remedy.begin(model)
            seen: list[Tensor] = []
            for step in range(STEPS):
                torch.manual_seed(step)
                for parameter, t, p in zip(parameters, tensors, places, strict=True):
                    grad = torch.randn_like(t) * SCALES[step]
                    parameter.grad = distribute_tensor(grad, mesh, [p]) if split and p else grad
                report = treatment()
                seen += [report[k].double() for k in ("grad_norm", "norms") if k in report]
                seen += [whole(p.grad).double() for p in parameters]
            outcomes.append(seen)
        torch.testing.assert_close(
            *outcomes, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


CHECKS: dict[str, Callable[[int], None]] = {
    "replicas": replicas,
    "shards": shards,
    "columns": columns,
}


def process(rank: int, check: str, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    try:
        CHECKS[check](rank)
    finally:
        ranks.leave()


@pytest.mark.parametrize("check", CHECKS)
def test_two_processes_clip_as_one(check: str, tmp_path: Path) -> None:
    forked.spread(WORLD, process, check, str(tmp_path / "store"))
