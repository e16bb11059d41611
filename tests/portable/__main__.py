"""Run tests of the back ends under other arithmetic than this machine's own, and print a table.

    python -m tests.portable            # every row, then 64-bit Arm
    python -m tests.portable v2 arm     # rows whose name contains one of these

What varies: the vectors that torch's own operations use, those that kernels are built for, the
compiler, the number of threads; and the kernels as 64-bit Arm code, emulated, see
`tests.portable.arm`. A row whose compiler or processor is not there is skipped with its reason.
Every row builds its kernels anew.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from steadygrad.cells import CELLS
from tests.portable import arithmetic, arm

TESTS = (
    "tests/scan/test_backends.py::TestC::test_values_and_gradients_in_float64",
    "tests/scan/test_backends.py::TestC::test_errors_in_float32_are_those_of_eager",
    "tests/scan/test_backends.py::TestC::test_taps_and_clips",
    "tests/scan/test_backend.py::test_the_exact_mode_changes_the_result_and_is_as_near_as_eager",
    "tests/scan/test_backend.py::test_the_vectorised_functions_are_accurate",
    "tests/scan/test_backend.py::test_what_is_not_finite_shows_in_its_row_from_its_step_on",
    "tests/nn/test_drop_in_random.py",
    "tests/nn/test_stream.py::test_a_stream_equals_the_whole_sequence",
    "tests/nn/test_stream.py::test_a_stream_of_a_torch_layer",
    "tests/nn/test_stream.py::test_changed_weights_are_seen_and_the_state_stays",
    *(
        f"tests/cells/test_cells.py::test_compiled_equals_eager[{CELLS[name]()!r}-fp32]"
        for name in ("lstm-layer-norm", "lem", "slstm")
    ),
)
"""Tests that are about numbers: compiled layers beside eager, torch.nn and float64."""
LIMIT = 1800
"""Seconds that a row may take; alone on two cores it takes about one minute."""


@dataclass(frozen=True)
class Row:
    """One way to compute.

    Attributes:
        torch: Vectors that torch's operations may use; a key of `VECTORS`.
        march: What kernels are built for.
        cc: The compiler.
        threads: Of torch and of kernels.
        needs: A flag in /proc/cpuinfo without which it cannot run.
    """

    torch: str
    march: str
    cc: str
    threads: int
    needs: str = ""

    def __str__(self) -> str:
        return f"torch {self.torch}, kernels {self.march}, {self.cc}, threads {self.threads}"

    def skipped(self) -> str | None:
        """Why this row cannot run here; None if it can."""
        if shutil.which(self.cc) is None:
            return f"{self.cc} is not installed"
        if "x86" in self.march and platform.machine() not in ("x86_64", "AMD64"):
            return f"{self.march} is no {platform.machine()}"
        if self.needs and self.needs not in _flags():
            return f"this processor has no {self.needs}"
        return None

    def variables(self) -> dict[str, str]:
        """What a process of this row is started with."""
        return VECTORS[self.torch] | {
            arithmetic.MARCH: self.march,
            arithmetic.THREADS: str(self.threads),
            "OMP_NUM_THREADS": str(self.threads),
            "CC": self.cc,
        }


def _vectors(aten: str, mkl: str, onednn: str) -> dict[str, str]:
    """Torch's own operations, and the two libraries that multiply matrices for it."""
    return {
        "ATEN_CPU_CAPABILITY": aten,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "ONEDNN_MAX_CPU_ISA": onednn,
    }


VECTORS: dict[str, dict[str, str]] = {
    "native": {},
    "default": _vectors("default", "SSE4_2", "SSE41"),
    "avx2": _vectors("avx2", "AVX2", "AVX2"),
    "avx512": _vectors("avx512", "AVX512", "AVX512_CORE"),
}
ROWS = (
    Row("native", "native", "gcc", 1),
    Row("native", "native", "clang", 2),
    Row("default", "x86-64-v2", "gcc", 2),
    Row("default", "x86-64-v2", "clang", 1),
    Row("avx2", "x86-64-v3", "gcc", 1, needs="avx2"),
    Row("avx2", "x86-64-v3", "clang", 2, needs="avx2"),
    Row("avx512", "x86-64-v4", "gcc", 2, needs="avx512f"),
    Row("avx512", "x86-64-v4", "clang", 1, needs="avx512f"),
)
"""Each compiler with each kind of vectors, and with one thread and two; not all combinations."""


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return set(re.findall(r"\w+", next(iter(re.findall(r"flags\s*:.*", text)), "")))


def run(row: Row, cache: Path) -> tuple[bool, str]:
    """Run the chosen tests; whether they passed, and the line of pytest that says how many."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.portable.arithmetic",
        "-q",
        "--tb=short",
    ]
    command += ["-p", "no:cacheprovider", "-n", "auto", "--maxprocesses", "4"]
    try:
        done = subprocess.run(
            [*command, *TESTS],
            env=os.environ | row.variables() | {"STEADYGRAD_CACHE": str(cache)},
            capture_output=True, text=True, check=False, timeout=LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"not done within {LIMIT} s"
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:], sep="\n", file=sys.stderr)
    last = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:]
    return done.returncode == 0, last[0].strip("= ") if last else "no output"


def main(names: list[str]) -> int:
    """Print the table; 1 if a row failed."""
    failed = False
    for row in (r for r in ROWS if not names or any(n in str(r) for n in names)):
        begin = time.monotonic()
        reason = row.skipped()
        if reason:
            verdict, said = "skipped", reason
        else:
            with tempfile.TemporaryDirectory() as cache:
                fine, said = run(row, Path(cache))
            verdict = "passed" if fine else "FAILED"
            failed |= not fine
        print(f"{row!s:48} {verdict:8} {time.monotonic() - begin:4.0f} s  {said}", flush=True)
    if not names or any(n in "arm" for n in names):
        print("\nKernels as 64-bit Arm code, emulated; errors against float64:")
        failed |= arm.main([]) > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
