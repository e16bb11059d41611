"""The live page under many readers: what the server of a growing record costs.

    python -m benchmarks.live_clients [--clients 50] [--steps 10000] [--seconds 20] [--json]

A record of ``--steps`` training steps, with a row of 100 lags at every tenth, is served by a
process of its own. It grows by a step every 20 ms while ``--clients`` readers, each with a stream
of events of its own, follow it from another process. Printed are the server's memory before, with
one reader and with all, its share of a core, the bytes of the first event and of those that follow,
and how long it takes until the last reader has its first event.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from steadygrad.board import Board
from steadygrad.record import Record

LAGS = 100
PAUSE = 0.02


def write(record: Record, step: int) -> None:
    record.scalars(step, {"loss": 1 / (1 + step), "grad_norm": 0.5 + np.sin(step) / 4})
    if step % 10 == 0:
        record.row(step, "log10_grad", "lstm", np.linspace(-6 - np.sin(step / 500), 0, LAGS))
        record.row(step, "gate:forget", "lstm", [0.5 + np.sin(step / 700) / 3])


def serve(path: Path) -> None:
    """Serve until the line on standard input ends."""
    with Board([path]) as board:
        print(board.url, flush=True)
        sys.stdin.readline()


def usage(pid: int) -> tuple[float, float]:
    """MiB of memory and seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20, (int(fields[11]) + int(fields[12])) / 100


class Reader:
    """One stream of events: the time and the bytes of each, and the last step that it told."""

    def __init__(self) -> None:
        self.events: list[tuple[float, int]] = []

    async def follow(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**26)
        request = f"GET {parts.path}events HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
        writer.write(request.encode())
        size = 0
        while line := await reader.readline():
            size += len(line)
            if line in (b"\r\n", b"\n"):
                continue
            if line.startswith(b"data:"):
                self.events.append((time.monotonic(), size))
                size = 0


async def readers(url: str, count: int, seconds: float) -> list[Reader]:
    found = [Reader() for _ in range(count)]
    tasks = [asyncio.create_task(r.follow(url)) for r in found]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


def measure(clients: int, steps: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        record = Record.create(path, config={})
        for step in range(steps):
            write(record, step)
        record.commit()
        command = [sys.executable, "-m", "benchmarks.live_clients", "--serve", str(path)]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdin and server.stdout
        url = server.stdout.readline().strip()
        is_over = threading.Event()

        def grow() -> None:
            for step in range(steps, steps + 10**9):
                if is_over.is_set():
                    break
                write(record, step)
                if step % 10 == 0:
                    record.commit()
                time.sleep(PAUSE)
            record.close()

        rows: dict[str, Any] = {
            "clients": clients,
            "steps": steps,
            "idle MiB": usage(server.pid)[0],
        }
        writer = threading.Thread(target=grow)
        writer.start()
        try:
            for count in (1, clients):
                _, before = usage(server.pid)
                began = time.monotonic()
                found = asyncio.run(readers(url, count, seconds))
                passed = time.monotonic() - began
                memory, after = usage(server.pid)
                name = f"{count} reader{'s'[: count > 1]}"
                events = [r.events for r in found]
                rows[name] = {
                    "MiB": memory,
                    "share of a core": (after - before) / passed,
                    "served": sum(bool(e) for e in events),
                    "events a reader": statistics.median(map(len, events)),
                    "KiB of the first": statistics.median(e[0][1] for e in events if e) / 1024,
                    "KiB of a later": statistics.median(b for e in events for _, b in e[1:]) / 1024,
                    "s until the first": max(e[0][0] for e in events if e) - began,
                }
        finally:
            is_over.set()
            writer.join()
            server.communicate("\n", timeout=30)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="The live page under many readers.")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.serve is not None:
        serve(args.serve)
        return
    rows = measure(args.clients, args.steps, args.seconds)
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{args.steps} steps, growing by 50 a second; server idle: {rows['idle MiB']:.0f} MiB")
    for name, row in rows.items():
        if isinstance(row, dict):
            told = ", ".join(f"{k} {v:.3g}" for k, v in row.items())
            print(f"{name}: {told}")


if __name__ == "__main__":
    main()
