"""Compile kernels ahead of time, and read what they need of a multiprocessor.

No device is needed for this: Triton's compiler and cuobjdump come in its wheel.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from steadygrad.scan.backends.triton.form import Form
from steadygrad.scan.backends.triton.module import constants, function_of, printed_of, types_of
from steadygrad.scan.backends.triton.tiles import CANDIDATES, Tiles

ALIGNED = [["tt.divisibility", 16]]
"""What Triton assumes of a pointer at the first call with torch's own allocations."""


@dataclass(frozen=True)
class Resources:
    """What one program needs.

    Attributes:
        registers: Registers of each thread.
        spill: Bytes of each thread's stack, to which registers are spilled.
        shared: Bytes of shared memory.
        ptx: The compiled text, before the device's own instructions are chosen.
    """

    registers: int
    spill: int
    shared: int
    ptx: str


@lru_cache(maxsize=512)
def resources_of(form: Form, name: str, tiles: Tiles, capability: int) -> Resources:
    """Compile a kernel for a device, and read its resources.

    Args:
        form: What is printed.
        name: ``forward`` or ``backward``.
        tiles: Sizes of blocks.
        capability: Compute capability of the device, times ten: 80 for sm_80.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    printed = printed_of(form, name)
    signature = types_of(printed)
    fixed = {key: None for key, kind in signature.items() if kind == "constexpr"}
    options = constants(form, tiles)
    how = {key: options.pop(key) for key in ("num_warps", "num_stages", "enable_fp_fusion")}
    signature |= dict.fromkeys(options, "constexpr")
    pointers = [i for i, kind in enumerate(signature.values()) if kind.startswith("*")]
    source = ASTSource(
        function_of(printed.text, name),
        signature,
        fixed | options,
        {(i,): ALIGNED for i in pointers},
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=how)
    registers, spill = _usage(made.asm["cubin"])
    return Resources(registers, spill, made.metadata.shared, made.asm["ptx"])


def _usage(binary: bytes) -> tuple[int, int]:
    """Registers and bytes of stack, by cuobjdump."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        text = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack = (re.search(rf"{word}:(\d+)", text) for word in ("REG", "STACK"))
    assert registers and stack, text
    return int(registers[1]), int(stack[1])


@lru_cache(maxsize=512)
def best_tiles(form: Form, name: str, capability: int) -> Tiles:
    """The first sizes of blocks at which no register is spilled, or those that spill least."""
    spills: dict[Tiles, int] = {}
    for tiles in CANDIDATES:
        spills[tiles] = resources_of(form, name, tiles, capability).spill
        if not spills[tiles]:
            break
    return min(spills, key=spills.__getitem__)


def capability_of(device: torch.device) -> int:
    """Compute capability of a device, times ten."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
