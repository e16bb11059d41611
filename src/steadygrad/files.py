"""Put files in place whole: written beside their place, synced, and moved there in one step.

A reader, a crash or a power cut sees the old content or the new one, never half of either. The
temporary file has a name that nobody can guess and is made anew, so that no link that somebody put
there in advance is followed.
"""

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

ENDING = ".tmp"
_TOKEN = 8  # bytes: 2^64 names
# Some file systems cannot sync a folder, and say so with one of these.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def replace(
    path: Path, data: bytes, *, check: Callable[[Path], object] | None = None, mode: int = 0o666
) -> None:
    """Put ``data`` at ``path`` in one move, and make sure that it has reached the disk.

    Args:
        path: The place. A link that stands there is replaced, not followed.
        data: The content.
        check: Called with the finished temporary file before it is moved; what it raises is
            raised, and the old content stays.
        mode: Permissions, of which the process's umask is taken away.

    Raises:
        OSError: The disk or the folder refuses; nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN)}{ENDING}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    handle = os.open(beside, flags, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def cache_folder(name: str) -> Path | None:
    """Where this user's files of a kind are kept between runs; None for a user without a home.

    ``$XDG_CACHE_HOME/steadygrad/<name>``, or ``~/.cache/steadygrad/<name>``.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # HOME is not set, and nobody knows this user: a container
            return None
    return Path(base) / "steadygrad" / name


def sync_folder(folder: Path) -> None:
    """Make sure that moves into ``folder`` have reached the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove what writers of ``names`` left in ``folder`` when they were killed.

    Call it only where nobody else is writing these files now.
    """
    wanted = set(names)
    pattern = re.compile(rf"\.(.+)\.[0-9a-f]{{{2 * _TOKEN}}}{re.escape(ENDING)}")
    for path in folder.iterdir():
        found = pattern.fullmatch(path.name)
        if found and found[1] in wanted and not path.is_symlink():
            path.unlink(missing_ok=True)
