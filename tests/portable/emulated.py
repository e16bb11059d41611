"""Kernels built for another processor, and run under user-mode emulation.

Everything but the kernel itself stays as it is: `steadygrad.scan.backends.c` prepares a call, an
emulated process gets the argument words and a copy of the memory that they point to, runs the
kernel, and what it has written is copied back. So any test of a layer can be run on it.
"""

import array
import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock
from weakref import WeakValueDictionary

import torch

from steadygrad.cells import Cell
from steadygrad.scan.backends.c import build, kernel, pool
from steadygrad.scan.backends.c.backend import Compiled
from steadygrad.scan.backends.c.call import EntryPoint, KernelCall
from steadygrad.scan.backends.c.printer.file import Printed
from steadygrad.scan.backends.c.records import Records
from steadygrad.scan.backends.c.slots import Slots

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", ("qemu-aarch64-static", "qemu-aarch64")
PACKAGES = "gcc-aarch64-linux-gnu qemu-user-static"
RUNNER = Path(__file__).with_name("runner.c")
# As a kernel is built there, but for instructions that not every 64-bit Arm processor has.
FLAGS = [f for f in build.FLAGS if f not in ("-march=native", "-shared", "-fPIC")]
FLAGS += [*build.GCC_FLAGS, "-march=armv8-a"]


def missing() -> str | None:
    """Which tool is not there, as a reason to leave a check out; None if all are."""
    absent = [COMPILER] * (shutil.which(COMPILER) is None) + [EMULATOR[0]] * (emulator() is None)
    return f"{' and '.join(absent)} not found (Debian: {PACKAGES})" if absent else None


def emulator() -> str | None:
    return next((found for name in EMULATOR if (found := shutil.which(name))), None)


class RecordedCall(KernelCall):
    """A call that is found again by the address of its words."""

    by_address: ClassVar["WeakValueDictionary[int, RecordedCall]"] = WeakValueDictionary()

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.by_address[self.address] = self

    def memory(self, records: Records) -> list[tuple[int, int]]:
        """Address and bytes of all memory that the words point to."""
        spans = [(t.data_ptr(), t.numel() * t.element_size()) for t in self._alive]
        scratch = pool._scratch.memory
        spans.append((scratch.data_ptr(), scratch.numel() * scratch.element_size()))
        held = [self._sizes.split.bounds]
        held += self._sizes.places if isinstance(self._sizes.places, tuple) else ()
        spans += [(a.buffer_info()[0], 8 * len(a)) for a in held]
        written = self.words[self.index["records"]] if "records" in self.index else 0
        if written:
            spans.append((written, 8 * self.rows * records._width))
        return [(at, size) for at, size in dict.fromkeys(spans) if size]


class EmulatedKernel:
    """Stands in for `steadygrad.scan.backends.c.kernel.Kernel`."""

    def __init__(self, cell: Cell, file: Printed, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.records = Records(cell)
        self.runs = 0
        folder.mkdir(parents=True)
        source = folder / "cell.c"
        source.write_text(file.text)
        halves = (1, 2) if "#if HALF" in file.text else (0,)
        parts = [str(folder / f"{half}.o") for half in halves]
        common = [COMPILER, *FLAGS]
        for half, part in zip(halves, parts, strict=True):
            _run([*common, "-c", f"-DHALF={half}", "-o", part, str(source)])
        self.program = str(folder / "run")
        _run([*common, "-static", "-o", self.program, str(RUNNER), *parts, "-fopenmp", "-lm"])
        self.forward = self._entry("forward", file.forward)
        self.backward = self._entry("backward", file.backward)

    def _entry(self, name: str, slots: Slots) -> EntryPoint:
        entry = [str(slots.index[word]) for word in ("parallel", "number", "team")]

        def run(address: int) -> None:
            call = RecordedCall.by_address[address]
            self._emulate(name, entry, call.words, call.memory(self.records))
            self.runs += 1

        def room(address: int) -> int:
            words = array.array("q", bytes(8 * len(slots.index)))
            ctypes.memmove(words.buffer_info()[0], address, 8 * len(words))
            result, made = self._emulate(f"{name}_room", entry, words, [])
            ctypes.memmove(address, made.buffer_info()[0], 8 * len(words))
            return result

        return EntryPoint(slots, run, room)

    def _emulate(
        self, what: str, entry: list[str], words: "array.array[int]", spans: list[tuple[int, int]]
    ) -> "tuple[int, array.array[int]]":
        picture = self.folder / "memory"
        with picture.open("wb") as file:
            array.array("q", [len(words), len(spans)]).tofile(file)
            words.tofile(file)
            for address, size in spans:
                padded = (size + 7) // 8 * 8
                array.array("q", [address, padded]).tofile(file)
                file.write(ctypes.string_at(address, size) + bytes(padded - size))
        _run([str(emulator()), self.program, what, str(picture), *entry])
        with picture.open("rb") as file:
            head = array.array("q")
            head.fromfile(file, 1 + len(words))
            for address, size in spans:
                content = file.read((size + 7) // 8 * 8)
                ctypes.memmove(address, content, size)
        return head[0], head[1:]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}): {done.stderr.strip()[:2000]}")


@contextmanager
def on_arm(folder: Path) -> Iterator[list[EmulatedKernel]]:
    """Run every kernel as 64-bit Arm code; the list holds those that were built."""
    built: dict[Any, EmulatedKernel] = {}

    def loaded(
        cell: Cell, dtype: torch.dtype, exact: bool, projects: bool = False
    ) -> EmulatedKernel:
        key = (cell, dtype, exact, projects)
        if key not in built:
            file = kernel.printed(*key)
            built[key] = EmulatedKernel(cell, file, folder / str(len(built)))
            kernels.append(built[key])
        return built[key]

    kernels: list[EmulatedKernel] = []
    with (
        mock.patch.multiple(kernel, loaded=loaded, KernelCall=RecordedCall),
        mock.patch.object(Compiled, "prepared", lambda *_: None),  # it would not be recorded
    ):
        yield kernels
