"""What the printed Triton kernels need of a multiprocessor, compiled ahead of time.

Run ``python -m benchmarks.triton_resources``; no GPU is needed. Of each kernel the sizes of blocks
are those that the back end chooses by itself; memory is in bytes. ``bar`` counts barriers in the
text, ``mma`` instructions of tensor cores. It takes some ten seconds a line, minutes for
layer-normalised cells, which are left out by default.
"""

import argparse
import json
import os
from dataclasses import replace

os.environ["TRITON_INTERPRET"] = "0"  # before anything imports Triton

import torch

from steadygrad.cells import CELLS
from steadygrad.scan.backends.triton.form import Form
from steadygrad.scan.backends.triton.resources import best_tiles, resources_of

CASES = (
    "lstm:64:float32", "lstm:128:float32", "gru:128:float32", "gru-original:128:float32",
    "lstm-peephole:128:float32", "slstm:128:float32", "lstm:128:float32:tf32x3",
    "lstm:256:bfloat16",
)  # fmt: skip


def form_of(case: str) -> Form:
    """A dense call without clip or tap: ``cell:units:dtype``, perhaps ``:precision``."""
    name, size, dtype, *precision = case.split(":")
    cell, width = CELLS[name](), int(size)
    noise = (True,) * len(cell.noise)
    real: torch.dtype = getattr(torch, dtype)
    form = Form(cell, width, width, real, False, True, False, False, False, noise, True)
    return replace(form, precision=precision[0]) if precision else form


def measure(case: str, capability: int) -> list[dict[str, object]]:
    """Resources of both kernels."""
    form = form_of(case)
    found: list[dict[str, object]] = []
    for name in ("forward", "backward"):
        tiles = best_tiles(form, name, capability)
        used = resources_of(form, name, tiles, capability)
        found.append(
            {
                "case": case, "kernel": name, "sm": capability, "rows": tiles.rows,
                "units": tiles.units, "warps": tiles.warps, "registers": used.registers,
                "spill": used.spill, "shared": used.shared, "bar": used.ptx.count("bar.sync"),
                "mma": used.ptx.count("mma.sync") + used.ptx.count("wgmma.mma"),
            }
        )  # fmt: skip
    return found


def main() -> None:
    """Print one line for each kernel."""
    import triton

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--sm", type=int, nargs="*", default=[80, 90])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print(f"triton {triton.__version__}, torch {torch.__version__}, no device")
    heads: list[str] = []
    for case in options.cases:
        for capability in options.sm:
            for row in measure(case, capability):
                if options.json:
                    print(json.dumps(row), flush=True)
                    continue
                if not heads:
                    heads = list(row)
                    print(
                        "".join(
                            f"{head:>26}" if head == "case" else f"{head:>10}" for head in heads
                        )
                    )
                print(
                    "".join(f"{row[h]:>26}" if h == "case" else f"{row[h]:>10}" for h in heads),
                    flush=True,
                )


if __name__ == "__main__":
    main()
