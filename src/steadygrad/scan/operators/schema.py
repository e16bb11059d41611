"""Signatures of the operators, and how their plain arguments make a `ScanCall`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache

import torch
from torch import Tensor

from steadygrad.cells import Cell, parse, write
from steadygrad.errors import InputError
from steadygrad.scan.call import Frame, ScanCall
from steadygrad.scan.clips import LoopClip
from steadygrad.scan.layout import Layout
from steadygrad.scan.operators.padding import Padding

LIBRARY = torch.library.Library("steadygrad", "DEF")
_GIVEN = "str cell, str names, bool reverse, Tensor? sizes, Tensor[] tensors"
_TAGS = (torch.Tag.pt2_compliant_tag,)
LIBRARY.define(f"scan({_GIVEN}) -> Tensor[]", tags=_TAGS)
LIBRARY.define(f"scan_keep({_GIVEN}) -> Tensor[]", tags=_TAGS)
LIBRARY.define(
    f"scan_back({_GIVEN}, Tensor[] saved, Tensor?[] grads, bool[] needed) -> Tensor[]", tags=_TAGS
)

_known: dict[str, tuple[Cell, LoopClip | None, str | None]] = {}
_texts: dict[tuple[Cell, LoopClip | None, str | None], str] = {}


def operator_text(cell: Cell, clip: LoopClip | None = None, backend: str | None = None) -> str:
    """Write what runs as the operators' first argument: a cell as `steadygrad.cells.parse` reads.

    A clip or a back end stands behind it, as JSON. A cell that cannot be read back from text, such
    as one of a class inside a function, gets a name that holds in this process.
    """
    given = (cell, clip, backend)
    found = _texts.get(given)
    if found is None:
        options = {"clip": asdict(clip)} if clip else {}
        options |= {"backend": backend} if backend else {}
        name = (
            write(cell) or f"here {type(cell).__module__}:{type(cell).__qualname__} {len(_texts)}"
        )
        found = name + (f" {json.dumps(options)}" if options else "")
        _texts[given], _known[found] = found, given
    return found


def read(text: str) -> tuple[Cell, LoopClip | None, str | None]:
    """Undo `operator_text`, also in another process if the cell can be imported there.

    Raises:
        InputError: The cell is not known in this process and cannot be imported.
    """
    found = _known.get(text)
    if found is None:
        name, brace, rest = text.partition(" {")
        known = _known.get(name)
        if known is None and name.startswith("here "):
            raise InputError(
                f"cell {text.split()[1]}: it lived in the process that exported it; define it at "
                "the top of a module that can be imported, a frozen dataclass, and export again"
            )
        options = json.loads("{" + rest) if brace else {}
        clip = LoopClip(**options["clip"]) if "clip" in options else None
        cell = parse(name) if known is None else known[0]
        found = _known[text] = (cell, clip, options.get("backend"))
    return found


def with_options(text: str, clip: str, backend: str | None) -> str:
    """Add a clip, as of `clip_text`, and a back end to the text of a cell.

    Without a look-up, which torch.compile could not follow.
    """
    options = [f'"clip": {clip}'] * bool(clip) + [f'"backend": "{backend}"'] * bool(backend)
    return text + (" {" + ", ".join(options) + "}" if options else "")


def clip_text(clip: LoopClip | None) -> str:
    """A clip as `with_options` takes it; empty for none."""
    return "" if clip is None else json.dumps(asdict(clip))


def is_portable(text: str) -> bool:
    """Whether another process can read a text of `operator_text`."""
    return not text.startswith("here ")


@lru_cache(maxsize=1024)
def names_of(names: str) -> tuple[str, ...]:
    """Names of the tensors, as in `steadygrad.scan.call.Frame`."""
    return tuple(names.split(","))


def states_in(names: str) -> int:
    """How many states the cell has."""
    return names_of(names).count("state")


def call_without_sizes(text: str, names: str, reverse: bool, tensors: Sequence[Tensor]) -> ScanCall:
    """The call that an operator's arguments describe, as far as no size is needed for it.

    Args:
        text: As of `operator_text`.
        names: What each tensor is, joined by commas.
        reverse: Whether the steps are taken from the last to the first.
        tensors: As `ScanCall.split` has them.
    """
    cell, clip, backend = read(text)
    return Frame(cell, Layout((1,), reverse), clip, None, backend, names_of(names)).call(tensors)


def call_of(
    text: str, names: str, reverse: bool, sizes: Tensor | None, tensors: Sequence[Tensor]
) -> tuple[ScanCall, Padding | None]:
    """The call that an operator's arguments describe, and what was cut off to make it.

    Args:
        text: As of `operator_text`.
        names: What each tensor is, joined by commas.
        reverse: Whether the steps are taken from the last to the first.
        sizes: Rows at each time step, zeros at the end allowed; None if all rows take part in all.
        tensors: As `ScanCall.split` has them. With ``sizes``, the rows are those that take part,
            or those of a padded batch, ``B`` at each step, of which the first take part.
    """
    cell, clip, backend = read(text)
    rows, batch = tensors[0].shape[0], tensors[-1].shape[0]
    padding = None
    if sizes is None:
        layout = Layout.dense(rows // batch, batch, reverse)
    else:
        layout = Layout(tuple(n for n in sizes.tolist() if n), reverse)
        if rows == len(sizes) * batch and not (layout.batch_sizes and layout.rows == rows):
            padding = Padding.of(sizes, batch, reverse)
            tensors = padding.without(names_of(names), tensors)
        elif not layout.batch_sizes or layout.rows != rows or layout.batch != batch:
            raise InputError(
                f"steadygrad::scan: expected {sum(layout.batch_sizes)} rows, which sizes asks for, "
                f"or {len(sizes) * batch}, with padding, got {rows}, and {batch} states"
            )
    call = Frame(cell, layout, clip, None, backend, names_of(names)).call(tensors)
    if layout.batch_sizes:
        _check(call)
    return call, padding


def _check(call: ScanCall) -> None:
    """Refuse shapes that do not belong together: a kernel would read beyond them."""
    weights, layout, size = call.weights, call.layout, call.size
    gates, recurrent = len(call.cell.gates) * size, len(call.cell.recurrent) * size
    inputs = () if call.is_coded else (weights.weight_ih.shape[1],)
    width = size if weights.weight_hr is None else weights.weight_hr.shape[0]
    units = len(call.cell.per_unit)
    expected = [
        ("x", call.x, (layout.rows, *inputs)),
        ("weight_ih", weights.weight_ih, (gates, weights.weight_ih.shape[-1])),
        ("weight_hh", weights.weight_hh, (recurrent, width)),
        ("bias_ih", weights.bias_ih, (gates,)),
        ("bias_hh", weights.bias_hh, (recurrent,)),
        ("weight_hr", weights.weight_hr, (width, size)),
        *(("unit", value, (size,)) for value in weights.per_unit),
        *(("constant", value, (size,)) for value in weights.constants.values()),
        ("resets", call.resets, (layout.rows,)),
        *(("start", v, (size if k else width,)) for k, v in enumerate(call.start or ())),
        *(
            ("state", value, (layout.batch, size if k else width))
            for k, value in enumerate(call.state)
        ),
    ]
    for name, value, shape in expected:
        if value is not None and tuple(value.shape) != shape:
            raise InputError(
                f"steadygrad::scan: expected {name} of shape {shape} for "
                f"{type(call.cell).__name__}, got {tuple(value.shape)}"
            )
    if call.resets is not None and call.resets.dtype != torch.bool:
        raise InputError(f"steadygrad::scan: expected resets of bool, got {call.resets.dtype}")
    if len(weights.per_unit) != units:
        raise InputError(
            f"steadygrad::scan: {type(call.cell).__name__} has {units} parameters per unit, got "
            f"{len(weights.per_unit)}"
        )
