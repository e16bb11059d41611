"""Take each mend back in a copy of the source, and see that a test of the harness fails.

    python -m benchmarks.reliability mutations [--only 3 4] [--out FILE]

Each row is a defect that was found once. Its mend is undone by replacing a few words of the source,
in a copy; the tests named beside it are run on the copy and must fail. First all of them are run on
a copy with nothing replaced, and must pass.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd  # noqa: F401  # with torch, what takes longest to import
import pytest
import torch

ROOT = Path(__file__).parents[2]
RESUME = "tests/train/test_resume_state.py"
AGAIN = "tests/train/test_train_resume.py"
FILES = "tests/reliability/test_files.py"
KERNELS = "tests/reliability/test_kernel_cache.py"
FUZZ = "tests/reliability/test_fuzz_readers.py::test_nothing_but_a_result_or_words"
EDGES = "tests/reliability/test_fuzz_readers.py::test_edges"


@dataclass(frozen=True)
class Mutant:
    """A mend that is taken back.

    Attributes:
        number: Of the defect.
        defect: In a few words.
        file: Below ``src/steadygrad``.
        old: Words of the source, which stand there once.
        new: What replaces them.
        tests: What must fail.
    """

    number: int
    defect: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        1,
        "what a rollback goes back to is not saved",
        "train/loop.py",
        '"good": None if self._good is None else self._good.facts',
        '"good": None',
        (f"{RESUME}::test_rollbacks_of_a_resumed_run",),
    ),
    Mutant(
        1,
        "the losses that a divergence is judged by are not saved",
        "train/loop.py",
        "self._losses.restore(facts.losses)",
        "self._losses.clear()",
        (f"{RESUME}::test_rollbacks_of_a_resumed_run",),
    ),
    Mutant(
        1,
        "an attribute of the loop is neither saved nor declared",
        "train/loop.py",
        "        self._watch: Watch | None = None\n",
        "        self._watch: Watch | None = None\n        self.more = 1\n",
        (f"{RESUME}::test_every_attribute_is_saved_or_declared_derivable",),
    ),
    Mutant(
        2,
        "files of others are replaced",
        "record/ownership.py",
        "if (path.exists() or path.is_symlink()) and kind_of(path)",
        "if path.is_fifo() and kind_of(path)",
        (f"{FILES}::test_files_of_others_are_never_touched",),
    ),
    Mutant(
        2,
        "the page of somebody else is replaced",
        "record/ownership.py",
        'return "page" if _is_page(file.read(_PAGE)) else None',
        'return "page"',
        (f"{FILES}::test_a_report_replaces_pages_of_ours_alone",),
    ),
    Mutant(
        3,
        "the checksum of a checkpoint is not compared",
        "sealed.py",
        "if place is None or _digest(data, place) != data[slice(*place)].decode():",
        "if place is None:",
        (f"{RESUME}::test_every_flipped_bit_of_a_checkpoint_is_noticed",),
    ),
    Mutant(
        4,
        "the digest of a kernel is not compared",
        "scan/backends/c/cache.py",
        "if data is not None and name == _name(key, data, kind):",
        "if data is not None:",
        (f"{KERNELS}::test_no_flipped_bit_and_no_cut_is_ever_loaded",),
    ),
    Mutant(
        4,
        "the digest leaves out the key: another kernel fits",
        "scan/backends/c/cache.py",
        'hashlib.sha256(key.encode() + b"\\0" + data)',
        "hashlib.sha256(data)",
        (f"{KERNELS}::test_another_kernel_under_this_name_is_not_loaded",),
    ),
    Mutant(
        4,
        "a file is moved into place before it is synced",
        "files.py",
        "os.fsync(file.fileno())",
        "pass",
        (f"{FILES}::test_a_disk_that_refuses_leaves_the_old_file_alone",),
    ),
    Mutant(
        5,
        "owner and mode of the cache are not looked at",
        "scan/backends/c/cache.py",
        "    if distrusted is not None:",
        "    if distrusted is not None and False:",
        (f"{KERNELS}::test_what_others_can_have_written_is_never_loaded",),
    ),
    Mutant(
        5,
        "a kernel that others can write is loaded",
        "scan/backends/c/cache.py",
        "or not is_mine or found.st_mode & 0o022",
        "or not is_mine",
        (f"{KERNELS}::test_what_others_can_have_written_is_never_loaded",),
    ),
    Mutant(
        5,
        "the umask decides who may enter the cache",
        "scan/backends/c/cache.py",
        "path.mkdir(mode=0o700)",
        "path.mkdir()",
        (f"{KERNELS}::test_the_folder_is_this_users_alone_whatever_the_umask",),
    ),
    Mutant(
        6,
        "a traceback without a home folder",
        "files.py",
        "except RuntimeError:",
        "except KeyError:",
        (f"{KERNELS}::test_without_a_home",),
    ),
    Mutant(
        7,
        "a run that has ended is trained on",
        "train/run.py",
        'if saved is not None and saved.facts["progress"]["status"] != "running":',
        'if saved is not None and saved.facts["progress"]["status"] == "ended":',
        (f"{AGAIN}::test_a_finished_run_is_not_run_again",),
    ),
    Mutant(
        7,
        "events after the checkpoint are kept, and come twice",
        "train/run.py",
        "record.truncate(facts.progress.step, facts.record)",
        "record.truncate(2**40)",
        (f"{AGAIN}::test_what_came_after_the_checkpoint_is_forgotten",),
    ),
    Mutant(
        8,
        "an unreadable cache aborts",
        "scan/backends/c/cache.py",
        "    except OSError:\n        return\n    for name in",
        "    except EOFError:\n        return\n    for name in",
        (f"{KERNELS}::test_without_a_usable_folder_each_process_has_its_own_copy",),
    ),
    Mutant(
        9,
        "facts of a checkpoint are taken as they are",
        "plain.py",
        "    if not holds:\n        raise Misfit",
        "    if False:\n        raise Misfit",
        (f"{RESUME}::test_wrong_facts_in_a_whole_checkpoint", f"{FUZZ}[record-few]"),
    ),
    Mutant(
        9,
        "rows of a table of results are taken as they are",
        "report/grid_table.py",
        "        check_result(trial, result)\n",
        "",
        (f"{FUZZ}[table of results-few]",),
    ),
    Mutant(
        9,
        "a saved step is read without its checksum and schema",
        "diagnosis/reproduce.py",
        'return Step(saved, fit(StepFacts, saved.facts, "step"))',
        "return Step(saved, StepFacts(**saved.facts))",
        (f"{FUZZ}[saved step-few]",),
    ),
    Mutant(
        10,
        "the name of a temporary file can be guessed",
        "files.py",
        "{secrets.token_hex(_TOKEN)}",
        "{'0' * 16}",
        (f"{FILES}::test_no_temporary_name_can_be_guessed",),
    ),
    Mutant(
        10,
        "a link in the way is followed",
        "files.py",
        'os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)',
        "os.O_WRONLY | os.O_CREAT | os.O_TRUNC",
        (f"{FILES}::test_a_link_in_the_way_is_not_followed",),
    ),
    Mutant(
        11,
        "zlib's error comes through",
        "tasks/datasets.py",
        "lzma.LZMAError, zlib.error, MemoryError",
        "MemoryError",
        (f"{FUZZ}[packed data set-few]",),
    ),
    Mutant(
        12,
        "a closed terminal is not saved",
        "train/interrupt.py",
        '("SIGINT", "SIGTERM", "SIGHUP")',
        '("SIGINT", "SIGTERM")',
        (f"{RESUME}::test_a_closed_terminal_saves",),
    ),
    Mutant(
        12,
        "$CC is one word",
        "scan/backends/c/compiler.py",
        "shlex.split(given)",
        "(given,)",
        (f"{KERNELS}::test_the_compiler_may_be_several_words",),
    ),
    Mutant(
        12,
        "a compiler that wrote nothing is believed",
        "scan/backends/c/compiler.py",
        "wrote no file",
        "did what it could",
        (f"{KERNELS}::test_what_is_no_compiler_is_named",),
    ),
    Mutant(
        12,
        "long arguments are echoed whole",
        "cli/app.py",
        "LONGEST, LONGEST_WORD = 2000, 400",
        "LONGEST, LONGEST_WORD = 10**9, 10**9",
        (EDGES,),
    ),
    Mutant(
        12,
        "a compiler that hangs hangs for ever",
        "scan/backends/c/compiler.py",
        "timeout=max(0.0, until - time.monotonic())",
        "timeout=20.0",
        (f"{KERNELS}::test_a_compiler_that_hangs_is_ended_with_all_that_it_started",),
    ),
    Mutant(
        13,
        "the sign of a NaN is a NaN in compiled kernels",
        "scan/backends/c/runtime/real.h",
        "{ return x > 0 ? (real)1 : (x < 0 ? (real)-1 : (real)0); }",
        "{ return x != x ? x : (x > 0 ? (real)1 : (x < 0 ? (real)-1 : (real)0)); }",
        ("tests/scan/test_backend.py::test_a_nan_in_the_input_reaches_the_same_gradients",),
    ),
    Mutant(
        14,
        "a forked process keeps its parent's threads",
        "scan/backends/forks.py",
        "os.register_at_fork(before=_before, after_in_child=_in_child)",
        "pass",
        ("tests/reliability/test_fork.py",),
    ),
)


def main(only: Sequence[int], out: Path | None) -> int:
    """Run them; print the table; 0 if every one was noticed."""
    torch.set_num_threads(1)
    wanted = [m for m in MUTANTS if not only or m.number in only]
    with tempfile.TemporaryDirectory(prefix="steadygrad-mutants-") as name:
        copy = Path(name)
        for part in ("src", "tests", "benchmarks"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        tests = sorted({test for mutant in wanted for test in mutant.tests})
        code, failing, seconds = _run(copy, tests)
        if code:
            print(f"without a mutant: {failing or 'the tests cannot be run'}")
            return 1
        lines = [f"without a mutant: {len(tests)} tests or groups pass ({seconds:.0f} s)", ""]
        print(lines[0], flush=True)
        survived = 0
        for mutant in wanted:
            lines.append(_row(copy, mutant))
            survived += lines[-1].startswith("NOT")
            print(lines[-1], flush=True)
    lines += ["", f"{len(wanted)} mends taken back, {len(wanted) - survived} noticed"]
    print(lines[-1])
    if out is not None:
        out.write_text("\n".join(lines) + "\n")
    return int(survived > 0)


def _row(copy: Path, mutant: Mutant) -> str:
    path = copy / "src" / "steadygrad" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return f"NOT TRIED  {mutant.number:2}  {mutant.defect}: the source reads otherwise now"
    path.write_text(text.replace(mutant.old, mutant.new))
    code, failing, seconds = _run(copy, mutant.tests)
    path.write_text(text)
    if code < 0:  # what the test does to a fork, such as SIGHUP, has reached this one
        failing = failing or f"the test itself was ended by {signal.Signals(-code).name}"
    told = "noticed    " if code == 1 or code < 0 else f"NOT NOTICED (exit code {code}) "
    return f"{told}{mutant.number:2}  {mutant.defect:58} {failing} ({seconds:.0f} s)"


def _run(copy: Path, tests: Sequence[str]) -> tuple[int, str, float]:
    """Run tests on the copy in a fork, which has torch imported, and nothing of this library.

    Returns:
        The exit code of pytest, the first test that failed, and the seconds that it took.
    """
    began = time.monotonic()
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inside)
        os._exit(_tested(copy, tests, outside))
    os.close(outside)
    with os.fdopen(inside) as told:
        failed = told.readline().strip()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), failed, time.monotonic() - began


class _First:
    """Tells the first test that fails."""

    def __init__(self, to: int) -> None:
        self._to = to

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._to, f"{report.nodeid.split('::', 1)[-1]}\n".encode())


def _tested(copy: Path, tests: Sequence[str], to: int) -> int:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.chdir(copy)
    parts = [str(copy / "src"), str(copy)]
    os.environ["PYTHONPATH"] = os.pathsep.join(parts)
    os.environ["HOME"] = str(copy)
    os.environ["CC"] = "cc"  # one word: tests would set several, and be skipped without a compiler
    sys.path[:0] = parts
    for name in [n for n in sys.modules if n.partition(".")[0] in ("benchmarks", "tests")]:
        del sys.modules[name]
    options = ["-q", "-x", "-p", "no:cacheprovider", "-n", "0", "--tb=no", "-k", "not many"]
    try:
        return int(pytest.main([*options, "-m", "slow or not slow", *tests], plugins=[_First(to)]))
    except BaseException:
        os.write(to, " ".join(traceback.format_exc().split())[-200:].encode())
        return 99
