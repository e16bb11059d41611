"""The watch where a batch comes in parts: micro-batches, and processes that share it.

The oracle is one process that sees the whole batch at once.
"""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pack_padded_sequence

import steadygrad as sg
from steadygrad import ranks
from steadygrad.record import Record, read
from tests.helpers import forked
from tests.helpers.marks import needs_compiler

WORLD, STEPS, BATCH = 2, 3, 12
needs_ranks = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")


class Net(nn.Module):
    """Two recurrent layers, of torch's and ours; read at every step or at the last."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case
        self.below: Any = nn.LSTM(3, 8, batch_first=case == "batch first")
        if case == "noise":
            self.below = sg.Recurrent("lstm-zoneout", 3, 8)
        self.above = sg.GRU(8, 8, batch_first=case == "batch first")
        self.head = nn.Linear(8, 2)

    def forward(self, x: Any, lengths: Tensor | None = None) -> Tensor:
        if self.case == "packed":
            assert lengths is not None
            x = pack_padded_sequence(x, lengths, enforce_sorted=False)
            _, last = self.above(self.below(x)[0])
            return self.head(last[0])
        if self.case == "batch first":
            x = x.transpose(0, 1)
        y = self.above(self.below(x)[0])[0]
        y = y.transpose(0, 1) if self.case == "batch first" else y
        return self.head(y if self.case == "every step" else y[-1])


CASES = ("last step", "every step", "batch first", "packed")


def batch(step: int, poison: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(20, BATCH, 3, generator=generator)
    if poison:
        x[7, 1] = torch.nan  # the second row: of process 1
    return x, torch.randint(8, 21, (BATCH,), generator=generator)


def train(
    net: nn.Module,
    called: nn.Module,
    *,
    share: slice = slice(None),
    parts: int = 1,
    poison_at: int = -1,
    **options: Any,
) -> tuple[sg.Watch, list[dict[str, Any]]]:
    """Train on every step's rows ``share`` in so many parts; what the watch said at each step."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    seen: list[dict[str, Any]] = []
    watch = sg.watch(called, optimizer, budget=1.0, lag=15, rows=BATCH, **options)
    for step in range(STEPS):
        x, lengths = batch(step, step == poison_at)
        x, lengths = x[:, share], lengths[share]
        optimizer.zero_grad()
        for i in range(parts):
            own = slice(i, None, parts)
            (called(x[:, own], lengths[own]).square().mean() * 30 / parts).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        flow = {
            n: (f.log10_grad, f.by_lag.log10_ratio, [g.mean_value for g in f.gates.values()])
            for n, f in watch.flow.items()
        }
        found = [(f.fault, f.layer, f.step) for f in watch.findings]
        seen.append({"flow": flow, "found": found, "verdict": watch.verdict, **watch.latest})
    watch.close()
    return watch, seen


def net(case: str) -> Net:
    torch.manual_seed(0)
    return Net(case)


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one["found"] == other["found"] and one["verdict"] == other["verdict"]
        for name in ("grad_norm", "grad_norm_clipped", "horizon", "slope"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name
        assert one["flow"].keys() == other["flow"].keys()
        for layer, (grad, ratio, gates) in one["flow"].items():
            expected = other["flow"][layer]
            np.testing.assert_allclose(grad, expected[0], atol=1e-5)
            np.testing.assert_allclose(ratio, expected[1], atol=1e-5)
            torch.testing.assert_close(gates, expected[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("case", "parts"), [*((case, 2) for case in CASES), ("last step", 4)])
def test_micro_batches_are_measured_as_the_whole_batch(case: str, parts: int) -> None:
    whole, split = net(case), net(case)
    same(train(split, split, parts=parts)[1], train(whole, whole)[1])


def test_rows_are_the_first_of_the_step() -> None:
    """With fewer rows than the step has, only as many are kept of each micro-batch."""
    one, two = net("last step"), net("last step")
    watches = []
    for model, parts in ((one, 1), (two, 2)):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        watch = sg.watch(model, optimizer, budget=1.0, rows=8)
        for part in batch(0)[0].chunk(parts, 1):  # 6 rows, then 2 of 6
            (model(part).square().mean() / parts).backward()
        optimizer.step()
        watches.append(watch)
    for layer in ("below", "above"):
        grads = [w.flow[layer].log10_grad for w in watches]
        np.testing.assert_allclose(*grads, atol=1e-5)


def test_what_a_cell_draws_is_kept_with_its_rows() -> None:
    watch, _ = train(model := net("noise"), model, parts=3)
    assert watch.flow["below"].exactness.startswith("exact: ")


def replicas(rank: int, case: str, out: Path) -> None:
    own = net(case)
    spread = DistributedDataParallel(own)
    record = Record.create(out / "run.db", config={}) if rank == 0 else None
    share = slice(rank, None, WORLD)
    watch, seen = train(own, spread, share=share, record=record)
    if record is not None:
        record.close()
    (out / f"{rank}.pickle").write_bytes(pickle.dumps((seen, watch.findings, watch.verdict)))


def poisoned(rank: int, case: str, out: Path) -> None:
    own = net(case)
    record = Record.create(out / "run.db", config={}) if rank == 0 else None
    share = slice(rank, None, WORLD)
    watch, _ = train(own, DistributedDataParallel(own), share=share, poison_at=1, record=record)
    if record is not None:
        record.close()
    (out / f"{rank}.pickle").write_bytes(pickle.dumps(watch.findings))


def only_one(rank: int, case: str, out: Path) -> None:
    ranks.PATIENCE = 0.5
    spread = DistributedDataParallel(net(case))
    optimizer = torch.optim.SGD(spread.parameters(), 0.1)
    if rank == 0:
        with pytest.raises(ranks.LostProcess, match=r"waited .* for \[1\] of 2.*ranks='this'"):
            sg.watch(spread, optimizer)
        with sg.watch(spread, optimizer, ranks="this") as watch:
            assert watch.ranks.is_alone
    dist.barrier()


def process(rank: int, work: Callable[[int, str, Path], None], case: str, out: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    store = f"file://{out / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    try:
        work(rank, case, out)
    finally:
        ranks.leave()


def spread_over(work: Callable[[int, str, Path], None], case: str, out: Path) -> None:
    forked.spread(WORLD, process, work, case, out)


@needs_compiler  # without one each process warns, and a warning is an error here
@needs_ranks
@pytest.mark.parametrize(
    "case", [CASES[0], *(pytest.param(c, marks=pytest.mark.slow) for c in CASES[1:])]
)
def test_replicas_are_measured_as_one_process(case: str, tmp_path: Path) -> None:
    spread_over(replicas, case, tmp_path)
    found = [pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(WORLD)]
    whole = net(case)
    _, wanted = train(whole, whole)
    for seen, _, _ in found:
        same(seen, wanted)
    assert found[0][1] == found[1][1] and found[0][2] == found[1][2]
    with read(tmp_path / "run.db") as run:
        assert len(run.scalars("grad_norm")[0]) == STEPS
        assert run.notes["verdict"] == wanted[-1]["verdict"]


@needs_ranks
@pytest.mark.slow
def test_the_process_that_broke_is_named_by_all(tmp_path: Path) -> None:
    spread_over(poisoned, "last step", tmp_path)
    found = [pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(WORLD)]
    for findings in found:
        (broken,) = [f for f in findings if f.fault == "nonfinite"]
        assert broken.layer == "below" and broken.evidence["process"] == 1
        assert broken.evidence["time_step"] == 7 and broken.evidence["sequence"] == 0
    assert (tmp_path / "nonfinite-2.safetensors").exists()


@needs_ranks
@pytest.mark.slow
def test_a_watch_in_one_process_alone_is_refused(tmp_path: Path) -> None:
    spread_over(only_one, "last step", tmp_path)
