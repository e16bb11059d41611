"""Mixed precision, accumulation, groups, processes, compilation: measured right, or refused.

The oracle is the same training step in float64 and one process, by autograd alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg
from steadygrad import ranks

T, B, LAG = 24, 8, 20


class Reader(nn.Module):
    is_layer_cast = True  # else only the head is cast: torch's LSTM has no float16 on the CPU

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.is_layer_cast:
            return self.head(self.rnn(x)[0][-1])
        with torch.autocast("cpu", enabled=False):
            last = self.rnn(x)[0][-1]
        return self.head(last)


def reader() -> Reader:
    torch.manual_seed(0)
    return Reader()


def batch() -> Tensor:
    return torch.randn(T, B, 3, generator=torch.Generator().manual_seed(1))


def loss_of(out: Tensor) -> Tensor:
    return out.float().square().mean() * 20


@dataclass(frozen=True)
class Wanted:
    """What the step is: the norm before clipping, and log10 |dL/dh_t|."""

    norm: float
    log10_grad: np.ndarray


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    """Every state by itself, in float64: a loop over torch's cell, and autograd."""
    model = reader().double()
    cell = nn.LSTMCell(3, 8).double()
    names = dict(model.rnn.named_parameters())
    h, c = (torch.zeros(B, 8, dtype=torch.float64) for _ in range(2))
    states = []
    for x in batch().double():
        h, c = torch.func.functional_call(
            cell, {n.removesuffix("_l0"): p for n, p in names.items()}, (x, (h, c))
        )
        h.retain_grad()
        states.append(h)
    (model.head(h).square().mean() * 20).backward()
    norm = float(
        nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    )
    grads = [s.grad for s in states]
    return Wanted(norm, np.array([float(g.norm().log10()) for g in grads if g is not None]))


@contextmanager
def watching(called: nn.Module, optimizer: Any, **options: Any) -> Iterator[sg.Watch]:
    with sg.watch(called, optimizer, budget=1.0, lag=LAG, rows=B, **options) as watch:
        yield watch


def is_right(watch: sg.Watch, wanted: Wanted, rel: float = 1e-3) -> None:
    assert watch.latest["grad_norm"] == pytest.approx(wanted.norm, rel=rel)
    np.testing.assert_allclose(
        10 ** (watch.flow["rnn"].log10_grad - wanted.log10_grad), 1, atol=rel
    )
    assert not [f for f in watch.findings if f.fault == "nonfinite"]


def autocast(dtype: torch.dtype) -> Any:
    return torch.autocast("cpu", dtype=dtype)


BF16 = 0.05  # eight bits of mantissa, over a path of many steps


def bfloat16_lstm_error() -> str | None:
    """What torch's own LSTM says under autocast here; None where it runs."""
    try:
        with autocast(torch.bfloat16):
            nn.LSTM(3, 8)(torch.zeros(2, 1, 3))
    except RuntimeError as error:
        return str(error)
    return None


@pytest.fixture(params=[True, False], ids=["layer", "head"])
def cast_reader(request: pytest.FixtureRequest) -> Reader:
    """A model whose layer and head, or head alone, run in bfloat16."""
    if request.param and (error := bfloat16_lstm_error()):
        pytest.skip(f"torch.nn.LSTM has no bfloat16 on this processor: {error}")
    model = reader()
    model.is_layer_cast = request.param
    return model


def test_bfloat16(cast_reader: Reader, wanted: Wanted) -> None:
    model = cast_reader
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer) as watch:
        with autocast(torch.bfloat16):
            loss = loss_of(model(batch()))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        is_right(watch, wanted, BF16)
        assert watch.flow["rnn"].exactness.startswith("exact")


def test_bfloat16_diagnosed(cast_reader: Reader, wanted: Wanted) -> None:
    model = cast_reader

    def loss() -> Tensor:
        with autocast(torch.bfloat16):
            return loss_of(model(batch()))

    found = sg.diagnose(model, loss, LAG)
    difference = found.flow["rnn"].log10_grad - wanted.log10_grad
    np.testing.assert_allclose(10**difference, 1, atol=BF16)
    norms = [n for n in found.parameter_norms.values() if n is not None]
    assert np.linalg.norm(norms) == pytest.approx(wanted.norm, rel=BF16)


def test_where_torch_has_no_bfloat16_lstm_its_error_comes_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on x86 without AVX-512, simulated where the processor has it."""
    message = (
        "could not create a primitive descriptor for the LSTM forward propagation primitive. "
        "Run workload with environment variable ONEDNN_VERBOSE=all"
    )

    def fail(*_: object) -> None:
        raise RuntimeError(message)

    model = reader()
    monkeypatch.setattr(model.rnn, "forward", fail)
    with pytest.raises(RuntimeError, match="primitive descriptor") as caught:
        sg.diagnose(model, lambda: loss_of(model(batch())), LAG)
    assert "steadygrad.LSTM" in caught.value.__notes__[0]
    if error := bfloat16_lstm_error():  # the message is torch's, and may change with it
        assert error.startswith(message[:60])


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "plain": lambda m: torch.optim.SGD(m.parameters(), 0.0),
    "fused": lambda m: torch.optim.SGD(m.parameters(), 0.0, fused=True),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("given", [True, False], ids=["given", "found"])
@pytest.mark.parametrize("clip", ["ours", "theirs", "none"])
def test_float16_with_a_scaler(kind: str, given: bool, clip: str, wanted: Wanted) -> None:
    """With a step that overflows and is skipped before the one that is measured."""
    model = reader()
    model.is_layer_cast = False
    optimizer = OPTIMIZERS[kind](model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    options = {"scaler": scaler} if given else {}
    with watching(model, optimizer, **options) as watch:
        for factor in (1e30, 1.0):
            optimizer.zero_grad()
            with autocast(torch.float16):
                out = model(batch())
            scaler.scale(loss_of(out) * factor).backward()
            if clip == "theirs":
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            if clip == "ours" and given:
                watch.clip_(0.1)
            if clip == "ours" and not given and factor == 1.0:
                watch.clip_(0.1)
                if kind == "plain":
                    with pytest.raises(RuntimeError, match="make the watch with scaler="):
                        scaler.step(optimizer)
                    return
                # A fused optimiser is stepped when it skips, too: that has shown the scaler.
            scaler.step(optimizer)
            scaler.update()
        assert watch.step == 1  # the other one was never taken
        is_right(watch, wanted, 0.01)
        after = 0.1 if clip != "none" else wanted.norm
        assert watch.latest["grad_norm_clipped"] == pytest.approx(after, rel=0.01)


@pytest.mark.parametrize("keep", [False, True], ids=["set to none", "zeroed"])
def test_accumulation(keep: bool, wanted: Wanted) -> None:
    model = reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with watching(model, optimizer) as watch:
        for _ in range(2):
            optimizer.zero_grad(set_to_none=not keep)
            for part in batch().chunk(4, 1):
                (loss_of(model(part)) / 4).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            is_right(watch, wanted)


def test_parameter_groups(wanted: Wanted) -> None:
    model = reader()
    groups = [{"params": model.rnn.parameters(), "lr": 0.5}, {"params": model.head.parameters()}]
    optimizer = torch.optim.Adam(groups, 0.1)
    with watching(model, optimizer) as watch:
        loss_of(model(batch())).backward()
        watch.clip_(0.1)
        optimizer.step()
        is_right(watch, wanted)


@contextmanager
def in_a_group_of_one(folder: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    try:
        yield
    finally:
        ranks.leave()


needs_ranks = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")


@needs_ranks
def test_replicas(wanted: Wanted, tmp_path: Path) -> None:
    """Of one process; of two in test_watch_spread.py."""
    with in_a_group_of_one(tmp_path):
        spread = DistributedDataParallel(reader())
        optimizer = torch.optim.SGD(spread.parameters(), 0.1)
        with watching(spread, optimizer) as watch:
            loss_of(spread(batch())).backward()
            nn.utils.clip_grad_norm_(spread.parameters(), 0.1)
            optimizer.step()
            is_right(watch, wanted)
        for model in (spread, spread.module):
            with pytest.raises(ValueError, match=r"model\.module, and call that in loss_fn"):
                sg.diagnose(model, lambda: loss_of(spread(batch())), LAG)
        sg.diagnose(spread.module, lambda: loss_of(spread.module(batch())), LAG)
        optimizer.zero_grad()
        loss_of(spread(batch())).backward()  # and DDP works as before


@needs_ranks
def test_shards_are_refused(tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with in_a_group_of_one(tmp_path):
        model: Any = reader()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with pytest.raises(ValueError, match=r"rnn\.weight_ih_l0 is split over processes"):
            sg.watch(model, optimizer)
        with pytest.raises(ValueError, match="is split over processes"):
            sg.diagnose(model, lambda: loss_of(model(batch())), LAG)


def of_model(model: Reader) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    compiled: Any = torch.compile(model, backend="aot_eager")
    return compiled, lambda x: loss_of(compiled(x))


def after_a_run(model: Reader) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    compiled, loss = of_model(model)
    loss(batch())  # compiled before anybody watches
    return compiled, loss


def in_place(model: Reader) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    model.compile(backend="aot_eager")
    return model, lambda x: loss_of(model(x))


def of_layer(model: Reader) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    model.rnn = torch.compile(model.rnn, backend="aot_eager")  # type: ignore[assignment]
    return model, lambda x: loss_of(model(x))


def of_step(model: Reader) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    compiled: Any = torch.compile(lambda x: loss_of(model(x)), backend="aot_eager")
    return model, compiled


COMPILED = (of_model, after_a_run, in_place, of_layer, of_step)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Dynamo, tracing into a hook, warns of torch's own accord
@pytest.mark.parametrize("made", COMPILED)
@pytest.mark.parametrize("how", ["diagnose", "watch"])
def test_compiled(made: Any, how: str, wanted: Wanted) -> None:
    torch.compiler.reset()
    model, loss = made(reader())
    if how == "diagnose":
        found = sg.diagnose(model, lambda: loss(batch()), LAG)
        np.testing.assert_allclose(found.flow["rnn"].log10_grad, wanted.log10_grad, atol=1e-3)
        norms = [n for n in found.parameter_norms.values() if n is not None]
        assert np.linalg.norm(norms) == pytest.approx(wanted.norm, rel=1e-3)
        return
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with watching(model, optimizer) as watch:
        for _ in range(2):
            optimizer.zero_grad()
            loss(batch()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            is_right(watch, wanted)
