"""Small and large calls, inference and training, beside the peers that a user would pick.

    python -m benchmarks.layers.small [--threads 1] [--rounds 15] [--cell LSTM]
        [--sides ours torch onnxruntime jax] [--before PATH] [--json]

Every side runs in a process of its own, one call after another by turns, so that a machine whose
speed drifts slows all. Figures are medians over the rounds of the processor time of one call; a
ratio is the median over the rounds of ours over the other's in the same round. ``--before`` names
another checkout of this repository, which is one more side.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.layers.__main__ import commit, processor
from benchmarks.layers.timing import mean

SHAPES = [
    (1, 1, 32, 128),
    (1, 16, 64, 128),
    (20, 1, 64, 256),
    (100, 1, 32, 64),
    (200, 8, 8, 32),
    (100, 16, 128, 128),
    (100, 16, 256, 256),
    (50, 64, 256, 256),
    (784, 64, 1, 128),
]
LARGE = 3e8
"""Multiplications of a call, about, of which one is enough for a round."""


class Side:
    """A process that is told what to run."""

    def __init__(self, name: str, kind: str, threads: int, source: Path | None = None) -> None:
        self.name = name
        env = dict(os.environ)
        if source is not None:
            env["PYTHONPATH"] = str(source / "src")
        # As a file, not as a module: of another checkout it is the package that is imported.
        command = [sys.executable, str(Path(__file__).with_name("peers.py")), kind, str(threads)]
        self._process = subprocess.Popen(
            command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def time(self, line: str) -> tuple[float, float] | None:
        """Microseconds of a call: the processor's and by the clock; None if there is none."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        words = self._process.stdout.readline().split()
        return (float(words[0]), float(words[1])) if len(words) == 2 else None

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def measure(
    sides: list[Side], mode: str, cell: str, shape: tuple[int, ...], rounds: int
) -> dict[str, Any]:
    """All sides at one shape."""
    steps, batch, inputs, hidden = shape
    work = steps * batch * hidden * 4 * (inputs + hidden) * (3 if mode == "train" else 1)
    repeat = max(1, min(200, int(LARGE / work / 4)))
    line = " ".join(map(str, (mode, cell, *shape, repeat)))
    found: dict[str, list[tuple[float, float] | None]] = {s.name: [] for s in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            found[side.name].append(side.time(line))
    row: dict[str, Any] = {"mode": mode, "cell": cell, "shape": shape, "us": {}, "ratio": {}}
    for name, values in found.items():
        if any(v is None for v in values):
            continue
        row["us"][name] = statistics.median(v[0] for v in values if v)
        row.setdefault("wall_us", {})[name] = statistics.median(v[1] for v in values if v)
        pairs = zip(found[sides[0].name], values, strict=True)
        ratios = sorted(a[0] / b[0] for a, b in pairs if a and b)
        row["ratio"][name] = statistics.median(ratios)
        row.setdefault("quartiles", {})[name] = (
            ratios[len(ratios) // 4],
            ratios[-1 - len(ratios) // 4],
        )
    return row


def lines(rows: list[dict[str, Any]], names: list[str]) -> Iterator[str]:
    for mode in dict.fromkeys(row["mode"] for row in rows):
        yield f"\n{mode}, us of a call (ours over the other, quartiles)"
        yield f"{'cell':<6}{'T, B, I, H':<20}" + "".join(f"{n:>26}" for n in names)
        part = [row for row in rows if row["mode"] == mode]
        for row in part:
            cells = []
            for name in names:
                if name not in row["us"]:
                    cells.append(f"{'-':>26}")
                    continue
                told = f"{row['us'][name]:.1f}"
                if name != names[0]:
                    low, high = row["quartiles"][name]
                    told += f" {row['ratio'][name]:.2f} ({low:.2f}-{high:.2f})"
                cells.append(f"{told:>26}")
            yield f"{row['cell']:<6}{', '.join(map(str, row['shape'])):<20}" + "".join(cells)
        means = {
            name: mean([row["ratio"][name] for row in part if name in row["ratio"]])
            for name in names[1:]
            if any(name in row["ratio"] for row in part)
        }
        yield "geometric means: " + ", ".join(f"{n} {v:.2f}" for n, v in means.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="Calls of all sizes, beside their peers.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cell", nargs="+", default=["LSTM"])
    parser.add_argument("--mode", nargs="+", default=["forward", "train"])
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="so many, smallest first")
    parser.add_argument("--sides", nargs="*", default=["torch", "onnxruntime", "openvino", "jax"])
    parser.add_argument("--before", nargs="*", default=[], help="other checkouts")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    root = Path(__file__).parents[2]
    sides = [Side("ours", "ours", args.threads, root)]
    sides += [Side(Path(p).name, "ours", args.threads, Path(p)) for p in args.before]
    sides += [Side(name, name, args.threads) for name in args.sides if name != "ours"]
    rows = [
        measure(sides, mode, cell, shape, args.rounds)
        for mode in args.mode
        for cell in args.cell
        for shape in SHAPES[: args.shapes]
    ]
    for side in sides:
        side.close()
    if args.json:
        print(json.dumps({"machine": processor(), "commit": commit(), "rows": rows}))
        return
    print(f"{processor()}, {args.threads} thread(s), commit {commit()}")
    print(f"medians of {args.rounds} rounds by turns, processor time")
    print("\n".join(lines(rows, [side.name for side in sides])))


if __name__ == "__main__":
    main()
