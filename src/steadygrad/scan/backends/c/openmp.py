"""Threads of libtorch for printed kernels: a second pool beside torch's would fight with it."""

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


def _address(name: str) -> int:
    library = _library()
    if library is None or not hasattr(library, name):
        return 0
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


@lru_cache(maxsize=1)
def openmp() -> tuple[int, int, int] | None:
    """Addresses of GNU OpenMP's entry, thread number and team size; None if not exported.

    That they are reachable is an accident of how torch is built, so their absence is an answer
    and no error: kernels then run on one thread.
    """
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    entry, number, team = map(_address, names)
    return (entry, number, team) if entry and number and team else None
