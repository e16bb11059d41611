# pyright: reportOptionalOperand=false, reportArgumentType=false
"""What printed kernels call, as Triton functions. Importing this imports Triton.

Parameters without a type are blocks: Triton infers their types.

Whether kernels are compiled or interpreted (``TRITON_INTERPRET=1``) is settled by that import.
"""

from typing import Any

import triton
import triton.language as tl

from steadygrad.scan.backends.triton.environment import is_interpreted

if is_interpreted():
    from steadygrad.scan.backends.triton.interpreted import libdevice
else:
    from triton.language.extra import libdevice  # type: ignore[no-redef]

WIDENS: Any = tl.constexpr(is_interpreted())  # it multiplies the bits of bfloat16 as numbers
FEW: Any = tl.constexpr(40)  # see steadygrad.scan.rescale.NARROW


@triton.jit
def barrier():
    """Let all threads of a program see what each has written; the one place to rename it in."""
    tl.debug_barrier()


@triton.jit
def add_product(left, right, total, PRECISION: tl.constexpr):
    """Add a matrix product to a block of sums; the left factor is rounded to the right's dtype."""
    left = left.to(right.dtype)
    if WIDENS:
        left = left.to(total.dtype)
        right = right.to(total.dtype)
    return tl.dot(left, right, total, input_precision=PRECISION, out_dtype=total.dtype)


@triton.jit
def largest_of(value, mask):
    """The largest value of each row, ``(rows, 1)``, under a mask; NaN if there is one."""
    top = tl.max(tl.where(mask, value, float("-inf")), 1, keep_dims=True)
    bad = tl.max((mask & (value != value)).to(tl.int32), 1, keep_dims=True)
    return tl.where(bad != 0, float("nan"), top)


@triton.jit
def least(a, b):
    """The smaller of two values; NaN if either is."""
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def remainder(a, b):
    """The remainder with the sign of b, as `torch.remainder`."""
    rest = libdevice.fmod(a, b)
    return tl.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)


@triton.jit
def floor_divide(a, b):
    """The quotient rounded down, as torch rounds it."""
    quotient = (a - remainder(a, b)) / b
    low = tl.floor(quotient)
    return tl.where(b == 0, a / b, tl.where(quotient - low > 0.5, low + 1, low))


@triton.jit
def row_top(pointers, live, width, BN: tl.constexpr, DT: tl.constexpr):
    """The largest magnitude of each row of ``width`` features, ``(rows, 1)``; NaNs do not count."""
    top = tl.zeros(pointers.shape, DT)
    for first in range(0, width, BN):
        u = first + tl.arange(0, BN)
        mask = live[:, None] & (u < width)[None, :]
        value = tl.abs(tl.load(pointers + u[None, :], mask=mask, other=0.0)).to(DT)
        top = tl.maximum(top, tl.max(value, 1, keep_dims=True))
    return top


@triton.jit
def size_of(top):
    """What a row is divided by so that its squares stay in range."""
    return tl.where((top > 0) & (top < float("inf")), top, 1.0)


@triton.jit
def row_squares(pointers, live, size, width, BN: tl.constexpr, DT: tl.constexpr):
    """The sum of squares of each row, divided by ``size`` first, ``(rows, 1)``."""
    total = tl.zeros(pointers.shape, DT)
    for first in range(0, width, BN):
        u = first + tl.arange(0, BN)
        mask = live[:, None] & (u < width)[None, :]
        value = tl.load(pointers + u[None, :], mask=mask, other=0.0).to(DT) / size
        total += tl.sum(value * value, 1, keep_dims=True)
    return total


@triton.jit
def shrink(norm, bound):
    """The factor that brings a norm down to a bound; NaN stays NaN."""
    factor = tl.where(norm > bound, bound / tl.where(norm > bound, norm, bound), 1.0)
    return tl.where(norm != norm, norm, factor)


@triton.jit
def within(value, bound):
    """A value between two bounds; NaN stays NaN."""
    low = tl.where(value < -bound, -bound, value)
    return tl.where(low > bound, bound, low)


@triton.jit
def power_of_two(e, DT: tl.constexpr):
    """Two to a whole number, exactly, within the range of normal numbers."""
    if DT == tl.float64:
        bits = (tl.minimum(tl.maximum(e, -1022), 1022) + 1023).to(tl.int64) << 52
    else:
        bits = (tl.minimum(tl.maximum(e, -126), 126) + 127) << 23
    return bits.to(DT, bitcast=True)


@triton.jit
def raised(value, e):
    """A value times a power of two, in two halves; see `steadygrad.scan.rescale.scale`."""
    first = e >> 1
    return value * power_of_two(first, value.dtype) * power_of_two(e - first, value.dtype)


@triton.jit
def exponent_of(value, DT: tl.constexpr):
    """The exponent of `torch.frexp` of a positive finite number."""
    small = value < 1e-30
    value = tl.where(small, value * 18446744073709551616.0, value)  # 2^64: it may be subnormal
    if DT == tl.float64:
        found = ((value.to(tl.int64, bitcast=True) >> 52) & 2047).to(tl.int32) - 1022
    else:
        found = ((value.to(tl.int32, bitcast=True) >> 23) & 255) - 126
    return found - tl.where(small, 64, 0)


@triton.jit
def rescaling(top, live):
    """The power of two that brings rows far from one back to it, 0 for others."""
    usable = live & (top > 0) & (top < float("inf"))
    e = exponent_of(tl.where(usable, top, 1.0), top.dtype)
    return tl.where(usable & ((e > FEW) | (e < -FEW)), -e, 0)
