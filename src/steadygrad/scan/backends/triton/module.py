"""Make kernels of printed text."""

import hashlib
import linecache
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from steadygrad.scan.backends.triton.form import Form
from steadygrad.scan.backends.triton.printer.backward import BackwardPrinter
from steadygrad.scan.backends.triton.printer.forward import ForwardPrinter
from steadygrad.scan.backends.triton.printer.plan import Plan
from steadygrad.scan.backends.triton.tiles import Tiles, power_above

CALLED = (
    "add_product", "barrier", "largest_of", "least", "remainder", "floor_divide", "row_top",
    "row_squares", "size_of", "shrink", "within", "raised", "rescaling", "libdevice", "tl",
)  # fmt: skip
"""Names of `steadygrad.scan.backends.triton.runtime` that printed text uses."""


@dataclass(frozen=True)
class Kernel:
    """A printed kernel.

    Attributes:
        plan: Where its values stand.
        printer: What printed it, which knows its scratch memory.
        text: Its text.
        parameters: Names of what it is called with.
    """

    plan: Plan
    printer: ForwardPrinter | BackwardPrinter
    text: str
    parameters: tuple[str, ...]


@lru_cache(maxsize=256)
def printed_of(form: Form, name: str) -> Kernel:
    """Print the kernel ``forward`` or ``backward`` of a form.

    Raises:
        Unprintable: The step holds an operation that has no expression.
    """
    plan = Plan(form)
    printer = PRINTERS[name](plan)
    return Kernel(plan, printer, printer.text(), tuple(printer.parameters()))


PRINTERS = {"forward": ForwardPrinter, "backward": BackwardPrinter}


def types_of(kernel: Kernel) -> dict[str, str]:
    """The type of each parameter in Triton's words; ``constexpr`` for those that are None."""
    plan, form = kernel.plan, kernel.plan.form
    real, wide = (f"*{WORDS[dtype]}" for dtype in (form.dtype, form.compute))
    types = dict.fromkeys(kernel.parameters, real)
    types |= dict.fromkeys(("T", "B", "N"), "i32")
    if isinstance(kernel.printer, BackwardPrinter):
        types |= dict.fromkeys(("work", "carried", "sums", "at_h", "at_states", "bound"), wide)
        types |= {"enters": "*u8", "exponents": "*i32"}
    types |= {"resets": "*u8", "places": "*i64", "counts": "*i64"}
    absent = {
        "unit": not plan.cell.per_unit,
        "constant": not plan.constants,
        "projection": not form.projects,
        "resets": not form.resets,
        "start": not form.resets,
        "places": not form.packed,
        "counts": not form.packed,
        "weights": not plan.products,
        "bias": not (plan.products and form.bias),
        "at_h": not (form.tap or form.projects),
        "at_states": not form.tap,
        "enters": not form.rescales,
        "exponents": not form.rescales,
        "bound": form.clip is None,
    }
    return {name: "constexpr" if absent.get(name) else types[name] for name in kernel.parameters}


WORDS = {
    torch.float32: "fp32", torch.float64: "fp64", torch.float16: "fp16", torch.bfloat16: "bf16"
}  # fmt: skip


@lru_cache(maxsize=256)
def function_of(text: str, name: str) -> Any:
    """The Triton function of a printed text, which is kept in memory alone.

    Python finds the lines of code that was never in a file in `linecache`; so does Triton.
    """
    import triton

    from steadygrad.scan.backends.triton import runtime

    file = f"<steadygrad {name} {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space = {called: getattr(runtime, called) for called in CALLED}
    exec(compile(text, file, "exec"), space)
    # One kernel for all sizes: Triton would compile others for 1 and for multiples of 16.
    made: Any = triton.jit
    return made(space[name], do_not_specialize=["T", "B", "N"])


def constants(form: Form, tiles: Tiles) -> dict[str, Any]:
    """What a kernel is compiled for, by the names of `blocks.CONSTANTS`, and how."""
    import triton.language as tl

    return {
        "DT": tl.float64 if form.compute == torch.float64 else tl.float32,
        "PRECISION": form.precision,
        "BM": tiles.rows,
        "BN": tiles.units,
        "BK": tiles.terms,
        "ROW": power_above(form.size),
        "num_warps": tiles.warps,
        "num_stages": 1,
        "enable_fp_fusion": True,
    }
