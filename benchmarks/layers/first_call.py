"""The first call of a process: with nothing compiled yet, and with kernels that were kept.

    python -m benchmarks.layers.first_call [--cells lstm gru elman lstm-peephole] [--rounds 3]
        [--before PATH]

Each figure is of a process of its own, from after the imports of torch and of this package to the
end of the first call: seconds by the clock, and of the processor, compilers included. Sides and
states are taken by turns; medians over the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import json, os, resource, sys, time
import torch
import steadygrad as sg
name, mode = sys.argv[1:]
layer, x = sg.Recurrent(name, 128, 128), torch.randn(20, 4, 128)
def spent():
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))
wall, used = time.perf_counter(), spent()
if mode == "forward":
    with torch.no_grad():
        layer(x)
else:
    layer(x)[0].sum().backward()
print(json.dumps([time.perf_counter() - wall, spent() - used]))
"""


def once(root: Path, folder: str, cell: str, mode: str) -> tuple[float, float]:
    """Seconds by the clock and of the processor of one first call."""
    env = os.environ | {"PYTHONPATH": str(root / "src"), "STEADYGRAD_CACHE": folder}
    command = [sys.executable, "-c", RUN, cell, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    wall, used = json.loads(done.stdout.splitlines()[-1])
    return wall, used


def main() -> None:
    parser = argparse.ArgumentParser(description="The first call of a process.")
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "elman", "lstm-peephole"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", nargs="*", default=[], help="other checkouts")
    args = parser.parse_args()
    roots = [Path(__file__).parents[2], *map(Path, args.before)]
    print("seconds by the clock (of the processor, compilers included), medians")
    states = ("cold", "warm")
    print(
        f"{'cell':<16}{'call':<9}"
        + "".join(f"{r.name} {s:<6}".rjust(26) for r in roots for s in states)
    )
    for cell in args.cells:
        for mode in ("forward", "train"):
            found: dict[tuple[Path, str], list[tuple[float, float]]] = {}
            for _ in range(args.rounds):
                for root in roots:
                    with tempfile.TemporaryDirectory() as folder:
                        for state in states:
                            value = once(root, folder, cell, mode)
                            found.setdefault((root, state), []).append(value)
            told = []
            for values in found.values():
                wall, used = (statistics.median(v) for v in zip(*values, strict=True))
                told.append(f"{wall:.2f} ({used:.2f})".rjust(26))
            print(f"{cell:<16}{mode:<9}" + "".join(told), flush=True)


if __name__ == "__main__":
    main()
