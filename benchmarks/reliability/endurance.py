"""Watch a tiny model for very many steps: memory stays flat, the record small, the page openable.

    python -m benchmarks.reliability endurance --count 2000000

Prints, at ten points, the steps done, the resident memory of the process, and the size of the
record on disk; at the end that of the page. Memory counts as flat if in the second half of the
training it grew by less than 8 MiB.
"""

import gc
import os
import tempfile
import time
from pathlib import Path

import torch

import steadygrad as sg
from steadygrad.record import Record, read
from steadygrad.report import html

FLAT = 8 << 20  # bytes; an arena of the allocator comes and goes
PAGE = 1 << 20  # bytes
COMMIT = 5000  # steps


def main(count: int, keep_on: float) -> int:
    """Train; print the table; 0 if all bounds hold."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = sg.LSTM(2, 4)
    optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
    batches = [torch.randn(5, 2, 2) for _ in range(64)]
    began, end = time.process_time(), time.monotonic() + keep_on
    memory: list[int] = []
    with tempfile.TemporaryDirectory(prefix="steadygrad-endurance-") as name:
        path = Path(name) / "run.db"
        points = sorted({max(1, count * k // 10) for k in range(1, 11)})
        record = Record.create(path, config={})
        with record, sg.watch(layer, optimizer, lag=4, record=record) as watch:
            step = 0
            while step < count and time.monotonic() < end:
                loss = layer(batches[step % len(batches)])[0].square().mean()
                optimizer.zero_grad()
                loss.backward()
                watch.loss(loss.item())
                optimizer.step()
                step += 1
                if step % COMMIT == 0:
                    record.commit()
                if step in points or step % 100_000 == 0:
                    gc.collect()
                    memory.append(_resident())
                    size = sum(p.stat().st_size for p in path.parent.iterdir())
                    print(
                        f"{step:9} steps, {memory[-1] / 2**20:7.1f} MiB resident,"
                        f" {size / 2**20:6.2f} MiB of record,"
                        f" {1e6 * (time.process_time() - began) / step:5.0f} us each",
                        flush=True,
                    )
        with read(path) as run:
            page = len(html([run]).encode())
            events = len(run.events())
    later = memory[len(memory) // 2 :]
    growth = later[-1] - later[0]
    print(
        f"{step} steps: memory grew by {growth / 2**20:.1f} MiB in the second half, the page has"
        f" {page / 2**10:.0f} KiB, {events} events"
    )
    return int(growth > FLAT or page > PAGE)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
