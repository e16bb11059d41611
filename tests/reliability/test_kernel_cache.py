"""A compiled kernel is loaded only if nobody else can have written it and no bit of it changed."""

import ctypes
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steadygrad.cells import CELLS
from steadygrad.scan.backends.c import build, cache, compiler, kernel
from steadygrad.scan.backends.c.compiler import BuildError
from tests.helpers.marks import needs_compiler

pytestmark = [needs_compiler, pytest.mark.skipif(os.name != "posix", reason="POSIX owners")]
TEXT = "int steadygrad_forward(void) { return 41; }\n"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this test's own, and no kernel loaded before."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    monkeypatch.setattr(build, "FLAGS", ("-O0", "-fPIC", "-shared"))
    build.forget()
    cache._warn_once.cache_clear()
    yield folder
    build.forget()


def answer(text: str = TEXT) -> int:
    build.forget()
    return build.load(build.Source(text), build.WHOLE)[0].steadygrad_forward()


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["cc", "gcc", "clang"])
def test_every_compiler_takes_what_it_is_called_with(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("CC", name)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    assert answer() == 41


def test_the_folder_is_this_users_alone_whatever_the_umask(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "a" / "b" / "c"))
    before = os.umask(0)
    try:
        assert answer() == 41
    finally:
        os.umask(before)
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"):
        assert mode(folder) == 0o700
    assert mode(only(tmp_path / "a" / "b" / "c")) == 0o700


def test_it_is_found_again_without_compiling(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer() == 41

    def none(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiler, "run", none)
    assert answer() == 41


def test_no_flipped_bit_and_no_cut_is_ever_loaded(kept: Path) -> None:
    assert answer() == 41
    path = only(kept)
    key, data = path.name[:32], path.read_bytes()
    rng = random.Random(0)
    damaged = []
    for bit in rng.sample(range(8 * len(data)), 400):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    damaged += [data[: rng.randrange(len(data))] for _ in range(50)] + [b"", data + b"\0"]
    for content in damaged:
        path.unlink(missing_ok=True)  # this process still runs what is in the old file
        path.write_bytes(content)
        path.chmod(0o700)
        assert list(cache.find(kept, key)) == []
        assert not path.exists()  # so that the next process does not read it again
    assert answer() == 41
    assert only(kept).read_bytes() == data


def test_another_kernel_under_this_name_is_not_loaded(kept: Path) -> None:
    other = "int steadygrad_forward(void) { return 17; }\n"
    assert answer() == 41
    mine = only(kept)
    assert answer(other) == 17
    (theirs,) = set(kept.iterdir()) - {mine}
    # Under the key of one the content of the other, whose own digest is right.
    theirs.rename(kept / (mine.name[:33] + theirs.name[33:]))
    mine.unlink()
    assert answer() == 41


CONSTRUCTOR = """
#include <stdio.h>
int steadygrad_forward(void) {{ return 666; }}
__attribute__((constructor)) static void run(void) {{ fclose(fopen("{mark}", "w")); }}
"""


def planted(folder: Path, name: str, mark: Path) -> Path:
    """A library that leaves a mark when it is loaded, named as it would have to be."""
    source, target = folder.parent / "evil.c", folder.parent / "evil.so"
    source.write_text(CONSTRUCTOR.format(mark=mark))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
    data = target.read_bytes()
    target.unlink()
    path = folder / cache._name(name, data)
    path.write_bytes(data)
    return path


def key_of(text: str = TEXT) -> str:
    """The key under which a kernel is looked for."""
    found: list[str] = []
    plain = cache.find

    def noted(where: Path, key: str) -> Iterator[Path]:
        found.append(key)
        return plain(where, key)

    cache.find = noted  # type: ignore[assignment]
    try:
        answer(text)
    finally:
        cache.find = plain  # type: ignore[assignment]
    return found[0]


def test_the_harness_can_plant(kept: Path, tmp_path: Path) -> None:
    # A library of ours in the right place is loaded: else the tests below would pass for nothing.
    key = key_of()
    only(kept).unlink()
    planted(kept, key, tmp_path / "mark").chmod(0o700)
    assert answer() == 666 and (tmp_path / "mark").exists()


def open_to_all(folder: Path, library: Path) -> None:
    folder.chmod(0o777)


def open_to_group(folder: Path, library: Path) -> None:
    folder.chmod(0o770)


def above_open_to_all(folder: Path, library: Path) -> None:
    folder.parent.chmod(0o777)


def file_open_to_all(folder: Path, library: Path) -> None:
    library.chmod(0o777)


def behind_a_link(folder: Path, library: Path) -> None:
    real = folder.parent / "real.so"
    library.rename(real)
    library.symlink_to(real)


def foreign_folder(folder: Path, library: Path) -> None:
    os.chown(folder, 12345, -1)


def foreign_file(folder: Path, library: Path) -> None:
    os.chown(library, 12345, -1)


def foreign_above(folder: Path, library: Path) -> None:
    os.chown(folder.parent, 12345, -1)


SPOILT = (open_to_all, open_to_group, above_open_to_all, file_open_to_all, behind_a_link)
OWNERS = (foreign_folder, foreign_file, foreign_above)
FOLDERS = {open_to_all, open_to_group, above_open_to_all, foreign_folder, foreign_above}


@pytest.mark.parametrize("spoil", [*SPOILT, *OWNERS])
def test_what_others_can_have_written_is_never_loaded(
    spoil: Callable[[Path, Path], None], kept: Path, tmp_path: Path
) -> None:
    if spoil in OWNERS and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    key = key_of()
    only(kept).unlink()
    library = planted(kept, key, tmp_path / "mark")
    library.chmod(0o700)
    spoil(kept, library)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert answer() == 41
        assert answer() == 41
    assert not (tmp_path / "mark").exists()
    said = [str(w.message) for w in told if issubclass(w.category, cache.CacheWarning)]
    assert len(said) == (spoil in FOLDERS)  # said once
    if os.geteuid() == 0:
        os.chown(kept, 0, -1)
        os.chown(kept.parent, 0, -1)


def test_rights_to_read_are_taken_away(kept: Path) -> None:
    kept.mkdir(mode=0o755)
    assert answer() == 41
    assert mode(kept) == 0o700 and len(list(kept.iterdir())) == 1


@pytest.mark.parametrize("where", ["file", "below a file", "unreadable", "nul"])
def test_without_a_usable_folder_each_process_has_its_own_copy(
    where: str, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    if where == "unreadable":
        kept.mkdir(mode=0o700)

        def refuse(*_: object, **__: object) -> Iterator[Path]:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", refuse)
        monkeypatch.setattr(cache.files, "replace", refuse)
    elif where == "nul":
        monkeypatch.setattr(cache.files, "cache_folder", lambda name: Path("a\0b"))
        monkeypatch.delenv(cache.VARIABLE)
    else:
        kept.write_text("in the way")
        if where == "below a file":
            monkeypatch.setenv(cache.VARIABLE, str(kept / "x"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cache.CacheWarning)
        assert answer() == 41
    assert os.listdir(tmp_path / "tmp") == []  # noqa: PTH208  # nothing is left behind


def test_without_a_home(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert cache.folder() is None
    assert answer() == 41


SCRIPT = """
import os, sys
os.setgid(54321); os.setuid(54321)
os.environ.pop("HOME", None); os.environ.pop("XDG_CACHE_HOME", None)
import torch
from steadygrad.nn import Recurrent
from steadygrad.tasks.datasets import DataFile, read_file
Recurrent("gru", 3, 4, backend="c")(torch.randn(5, 2, 3))[0].sum().backward()
try:
    read_file(DataFile("nowhere/x", "0" * 64, "http://127.0.0.1:9/x"))
except ValueError as error:
    print("no home folder" in str(error))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root can be somebody else"
)
def test_a_user_whom_nobody_knows(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in (cache.VARIABLE, "STEADYGRAD_DATA")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, cwd="/"
    )
    if "Permission denied" in done.stderr and "steadygrad" not in done.stderr:
        pytest.skip("the interpreter is not for everybody here")
    assert done.stdout == "True\n", done.stderr


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_compiler_may_be_several_words(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    wrapper = script(tmp_path / "a b" / "ccache", f'echo called >> "{tmp_path}/log"; exec "$@"')
    monkeypatch.setenv("CC", f"'{wrapper}' cc")
    assert answer() == 41
    assert (tmp_path / "log").read_text().count("called") >= 3


def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = script(
        tmp_path / "cc",
        f'[ "$1" = --version ] && exit; sleep 60 & echo $! > "{tmp_path}/pid"; wait',
    )
    monkeypatch.setenv("CC", str(hanging))
    monkeypatch.setenv(compiler.LIMIT_VARIABLE, "0.5")
    began = time.monotonic()
    with pytest.raises(BuildError, match=r"still compiling after 0|still compiling after 1"):
        answer()
    assert time.monotonic() - began < 10
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or b"Z" in Path(f"/proc/{child}/stat").read_bytes():
            break
        time.sleep(0.02)
    else:
        raise AssertionError("what the compiler started still runs")


@pytest.mark.parametrize(
    ("cc", "says"),
    [
        ("/bin/true", "wrote no file: it is no C compiler"),
        ("nowhere-to-be-found -x", "no program 'nowhere-to-be-found' on the PATH"),
        ("'gcc", "No closing quotation"),
        ("/bin/false", "exit code 1"),
    ],
)
def test_what_is_no_compiler_is_named(
    cc: str, says: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", cc)
    with pytest.raises(BuildError, match=says) as raised:
        answer()
    assert "steadygrad-" not in str(raised.value)  # no temporary file is named


def test_a_real_kernel_goes_this_way(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = kernel.source(kernel.printed(CELLS["elman"](), torch.float32, False))
    compiled: list[str] = []
    run = compiler.run

    def noted(cc: Any, calls: Any, made: Any) -> None:
        compiled.extend(word for call in calls for word in call if word.endswith(".c"))
        run(cc, calls, made)

    monkeypatch.setattr(compiler, "run", noted)
    (forward,) = build.load(source, build.FORWARD)
    assert isinstance(forward, ctypes.CDLL) and not hasattr(forward, "steadygrad_backward")
    assert sorted(Path(c).name for c in compiled) == ["cell.c", "shared.c"]
    compiled.clear()
    build.forget()  # as another process: it finds what is shared, and the first half
    forward, backward = build.load(source, build.FORWARD, build.BACKWARD)
    assert hasattr(forward, "steadygrad_forward") and hasattr(backward, "steadygrad_backward")
    assert [Path(c).name for c in compiled] == ["cell.c"]
    (shared,) = kept.glob("*.o")
    assert len(list(kept.iterdir())) == 3
    shared.write_bytes(shared.read_bytes()[:-1])  # damaged: made again, not linked with
    build.forget()
    other = kernel.source(kernel.printed(CELLS["irnn"](), torch.float32, False))
    assert build.load(other, build.FORWARD)
    assert mode(next(kept.glob("*.o"))) == 0o700
