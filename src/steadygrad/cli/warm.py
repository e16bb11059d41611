"""``steadygrad warm CELLS``: build the kernels of cells before somebody waits for them."""

import json as json_format
import time
from typing import Annotated, Literal

import tyro

from steadygrad.errors import InputError

USUAL = ("lstm", "gru", "elman", "elman:nonlinearity=relu")
"""The cells of the layers that torch has, too."""


def warm(
    cells: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    dtype: Literal["float32", "float64"] = "float32",
    project: bool = False,
    all: bool = False,
    json: bool = False,
) -> int:
    """Build the kernels of cells ahead, into the cache: exit code 1 if one is not compiled.

    The first call of a cell compiles it, a second or two. In an image, or before a service starts,
    `steadygrad warm` does that: for the LSTM, the GRU and the RNNs, or the cells that are named.

    Args:
        cells: Names with options, or module:Class or file.py:Class of your own, as for a layer.
        dtype: Of the weights.
        project: For layers with proj_size; of cells that have it.
        all: Every built-in cell.
        json: Print one JSON document and nothing else.
    """
    import torch

    from steadygrad.cells import CELLS, parse
    from steadygrad.nn import Recurrent
    from steadygrad.scan import BackendError

    if all and cells:
        raise InputError("warm: expected either cells or --all, got both")
    names = tuple(CELLS) if all else cells or USUAL
    kind = getattr(torch, dtype)
    rows: list[dict[str, object]] = []
    for name in names:
        cell = parse(name)
        if project and not cell.can_project:
            raise InputError(f"warm: {name} uses h outside of products, and has no proj_size")
        layer = Recurrent(cell, 2, 3, proj_size=2 if project else 0, dtype=kind, backend="c").eval()
        began = time.perf_counter()
        problem = None
        try:
            layer(torch.zeros(2, 1, 2, dtype=kind))[0].sum().backward()
        except BackendError as error:
            problem = str(error)
        seconds = time.perf_counter() - began
        rows.append({"cell": name, "seconds": round(seconds, 3), "problem": problem})
        if not json:
            print(f"{name}: {problem or f'ready, {seconds:.2f} s'}", flush=True)
    if json:
        print(json_format.dumps({"dtype": dtype, "cells": rows}, indent=2))
    return int(any(row["problem"] for row in rows))
