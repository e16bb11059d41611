"""Ten cells as 64-bit Arm code under emulation, forward and backward, against eager's numbers.

    python -m tests.portable.arm                # a table; what stands there is an error
    python -m tests.portable.arm lstm gru

Eager runs on this machine. Errors are the largest of outputs and all gradients, relative to the
largest value of each tensor, against a float64 run.
"""

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from steadygrad.nn import Recurrent
from steadygrad.scan.backends.c import threads
from steadygrad.scan.backends.c.threads import cores
from tests.helpers.tolerance import assert_as_near, in_double, largest_relative_error
from tests.portable.emulated import missing, on_arm

NAMES = (
    *("lstm", "gru", "elman", "lstm-peephole", "lstm-layer-norm"),
    *("gru-original", "slstm", "lem", "cornn", "mingru"),
)
F32, F64 = torch.float32, torch.float64


@dataclass(frozen=True)
class Row:
    """One line of the table: errors of Arm and of eager, and what was wrong, if anything."""

    cell: str
    dtype: torch.dtype
    form: str
    arm: float
    eager: float
    fault: str

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        verdict = self.fault or "as eager"
        return (
            f"{self.cell:16} {dtype:8} {self.form:8} {self.arm:9.2e} {self.eager:9.2e}  {verdict}"
        )


HEAD = f"{'cell':16} {'dtype':8} {'form':8} {'Arm':>9} {'eager':>9}"


def outcome(layer: Recurrent, given: Any) -> list[Tensor]:
    """Values, taps and all gradients of a loss that weighs every value differently."""
    taps: list[Tensor] = []
    layer.on_tap = lambda _, __, tap: taps.append(tap.log10_norm.to(dtype))
    output, last = layer(given)
    packed = hasattr(output, "batch_sizes")
    values = [output.data if packed else output, *(last if isinstance(last, tuple) else (last,))]
    dtype = values[0].dtype
    generator = torch.Generator().manual_seed(1)
    mixture = [torch.randn(v.shape, dtype=F64, generator=generator).to(dtype) for v in values]
    loss = torch.stack([(v * m).sum() for v, m in zip(values, mixture, strict=True)]).sum()
    source = given.data if packed else given
    grads = torch.autograd.grad(loss, [source, *layer.parameters()])
    layer.on_tap = None
    return [v.detach() for v in (*values, *grads, *taps)]


def rows_of(name: str, dtype: torch.dtype, folder: Path) -> Iterator[Row]:
    """Dense on one thread; packed on two, and on two that share the columns of every product."""
    torch.manual_seed(0)
    layer = Recurrent(name, 6, 21, bidirectional=True, dtype=dtype).eval()
    x = torch.randn(7, 5, 6, dtype=dtype, requires_grad=True)
    sequences = pack_sequence([torch.randn(n, 6, dtype=dtype) for n in (2, 7, 4)], False)
    sequences.data.requires_grad_()
    ways: list[tuple[str, Any, int, int]] = [
        ("dense", x, 1, 0),
        ("packed", sequences, 2, 0),
        ("columns", x, 2, 1),
    ]
    before = torch.get_num_threads()
    try:
        with on_arm(folder) as kernels:
            for form, given, count, columns in ways:
                layer.backend = "eager"
                eager, exact = outcome(layer, given), in_double(outcome, layer, given)
                layer.backend = "c"
                torch.set_num_threads(count)
                with _shared(count, columns):
                    arm = outcome(layer, given)
                torch.set_num_threads(before)
                ours, theirs = (largest_relative_error(found, exact) for found in (arm, eager))
                yield Row(name, dtype, form, ours, theirs, _fault(arm, eager, exact))
            assert sum(k.runs for k in kernels) == 4 * len(ways), "no emulated run"
    finally:
        torch.set_num_threads(before)


def _shared(count: int, columns: int) -> Any:
    """Threads even for a call as small as these, that split rows or columns."""
    large = 0 if columns else 1 << 40
    limits: dict[str, Any] = {
        "SMALL": 0 if count > 1 else 1 << 40,
        "MEETING": large,
        "LARGE": large,
        "ROWS": 1000,
    }
    return mock.patch.multiple(threads, cores=lambda: count * columns, **limits)


def _fault(arm: list[Tensor], eager: list[Tensor], exact: list[Tensor]) -> str:
    try:
        assert_as_near(arm, eager, exact)
    except AssertionError as error:
        return "WRONG: " + " ".join(str(error).split())[:120]
    return ""


def table(task: tuple[str, torch.dtype]) -> list[Row]:
    """All lines of one cell in one dtype, whose kernel is built in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return list(rows_of(*task, Path(folder) / "kernels"))


def main(names: list[str]) -> int:
    """Print the table; 1 if a line is wrong."""
    reason = missing()
    if reason:
        print(f"64-bit Arm: skipped, {reason}")
        return 0
    tasks = [(name, dtype) for name in names or NAMES for dtype in (F32, F64)]
    print(HEAD)
    wrong = 0
    # Processes, not threads: a kernel is put in another's place for the whole process.
    with ProcessPoolExecutor(cores(), get_context("spawn")) as workers:
        for rows in workers.map(table, tasks):
            print(*rows, sep="\n", flush=True)
            wrong += sum(bool(row.fault) for row in rows)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
