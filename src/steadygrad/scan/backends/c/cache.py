"""Compiled kernels kept between processes: in a folder that no other user can write, by content.

A library that is loaded runs with all rights of its user, from its first instruction on. So it is
loaded only from a folder that this user owns and no one else may enter, and only if its bytes are
those that were compiled. The name of a file is the key of what it was compiled from and a SHA-256
of key and content: another kernel under this name, a file that was cut short and a single bit that
flipped are all noticed. Where there is no such folder each process keeps a copy of its own.
"""

import hashlib
import os
import re
import stat
import time
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from steadygrad import files

VARIABLE = "STEADYGRAD_CACHE"
MOST = 1 << 26  # bytes of a library; the largest has a hundredth of it
_KEY = 32  # hexadecimal digits of the key that a name holds
_NAME = re.compile(rf"[0-9a-f]{{{_KEY}}}-[0-9a-f]{{64}}\.(so|o)")
_STALE = 86400.0  # seconds after which what a killed writer left is removed


class CacheWarning(UserWarning):
    """The folder of compiled kernels is not used, because somebody else could write there."""


def folder() -> Path | None:
    """The folder, made if it is missing; None if there is none that can be trusted."""
    given = os.environ.get(VARIABLE)
    wanted = Path(given) if given else files.cache_folder("kernels")
    if wanted is None:
        return None
    try:
        real = wanted.resolve()
        _make(real)
        distrusted = _distrusted(real)
    except (OSError, RuntimeError, ValueError):  # not to be made, read or resolved
        return None
    if distrusted is not None:
        _warn_once(str(wanted), distrusted)
        return None
    return real


def find(where: Path, key: str, kind: str = "so") -> Iterator[Path]:
    """Libraries (or objects, ``"o"``) of this key as they were compiled; damaged ones go."""
    try:
        names = [p.name for p in where.iterdir() if p.name.startswith(f"{key[:_KEY]}-")]
    except OSError:
        return
    for name in sorted(names):
        if not _NAME.fullmatch(name) or not name.endswith(f".{kind}"):
            continue
        path = where / name
        data = _read(path)
        if data is not None and name == _name(key, data, kind):
            yield path
        elif data is not None:
            path.unlink(missing_ok=True)


def place(where: Path, key: str, data: bytes, kind: str = "so") -> Path:
    """Put a library or an object into the folder, in one move, when it has reached the disk.

    Raises:
        OSError: The folder or the disk refuses.
    """
    path = where / _name(key, data, kind)
    files.replace(path, data, mode=0o700)
    return path


def sweep(where: Path) -> None:
    """Remove what killed processes left half done, a day later."""
    for path in where.glob(".*"):
        try:
            if time.time() - path.lstat().st_mtime > _STALE and path.is_file():
                path.unlink()
        except OSError:  # another process was faster
            continue


def _name(key: str, data: bytes, kind: str = "so") -> str:
    digest = hashlib.sha256(key.encode() + b"\0" + data).hexdigest()
    return f"{key[:_KEY]}-{digest}.{kind}"


def _make(path: Path) -> None:
    """Make a folder and those above it, each for this user alone, whatever the umask."""
    if path.is_dir():
        return
    if path.parent != path:
        _make(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    sweep(path)


def _distrusted(path: Path) -> str | None:
    """Why nothing is loaded from here, or None; rights to read are taken from others."""
    if not hasattr(os, "geteuid"):  # no owners in this sense
        return None
    me = os.geteuid()
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        return "it is no folder"
    if found.st_uid != me:
        return f"it belongs to user {found.st_uid}, not to this one ({me})"
    if found.st_mode & 0o022:
        return f"others may write there (mode {stat.S_IMODE(found.st_mode):o}, expected 700)"
    if found.st_mode & 0o055:
        path.chmod(0o700)
    trusted = {0, me, _nobody()}
    for above in path.parents:
        found = above.stat()
        is_sticky = bool(found.st_mode & stat.S_ISVTX)
        if found.st_uid not in trusted or (found.st_mode & 0o002 and not is_sticky):
            return f"others may replace it ({above} is writable or owned by somebody else)"
    return None


def _read(path: Path) -> bytes | None:
    """The content of a file of this user's alone; None of any other."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        is_mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not stat.S_ISREG(found.st_mode) or not is_mine or found.st_mode & 0o022:
            return None
        try:
            return file.read(MOST)
        except OSError:
            return None


@lru_cache(maxsize=1)
def _nobody() -> int:
    """Who owns what a user namespace does not know, such as the root folder of a container."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=16)
def _warn_once(path: str, why: str) -> None:
    warnings.warn(
        f"compiled kernels are not kept in {path}: {why}; each process compiles its own. Give a"
        f" folder of your own in ${VARIABLE}",
        CacheWarning,
        stacklevel=2,
    )
