"""Functions inside libtorch that a printed kernel calls: matrix product and threads."""

import ctypes
from functools import lru_cache
from pathlib import Path

import torch


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        if (folder / name).exists():
            return ctypes.CDLL(str(folder / name))
    return None


def address(name: str) -> int:
    """Address of an exported function; 0 if this build of torch does not export it.

    That the matrix product and the OpenMP runtime are reachable is an accident of the wheel, so
    their absence is an answer and not an error.
    """
    library = _library()
    if library is None or not hasattr(library, name):
        return 0
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


@lru_cache(maxsize=4)
def tools(dtype: torch.dtype) -> dict[str, int] | None:
    """Addresses by their names in `steadygrad.scan.c.source`; None if a needed one is missing."""
    found = {
        "gemm": address("sgemm_" if dtype == torch.float32 else "dgemm_"),
        "parallel": address("GOMP_parallel"),
        "number": address("omp_get_thread_num"),
        # Not the lower-case twin: that one is for Fortran and takes a pointer.
        "local": address("MKL_Set_Num_Threads_Local"),
    }
    return found if found["gemm"] and found["parallel"] and found["number"] else None
