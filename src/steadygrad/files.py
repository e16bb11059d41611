"""Write files atomically: to a temporary file, synced, and moved into place.

A reader, or the file after a crash or power failure, has the old content or the new one. The
temporary file has an unpredictable name and is created exclusively, so that a link planted by
somebody else is not followed.
"""

import contextlib
import errno
import fnmatch
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system
    fcntl = None

ENDING = ".tmp"
_TOKEN = 8  # random bytes in a name
# errors of file systems that cannot sync a folder
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def replace(
    path: Path, data: bytes, *, check: Callable[[Path], object] | None = None, mode: int = 0o666
) -> None:
    """Write ``data`` to ``path`` atomically, synced to the disk.

    Args:
        path: The path. An existing link is replaced, not followed.
        data: The content.
        check: Called with the complete temporary file before it is moved; if it raises, the old
            content stays.
        mode: Permissions, reduced by the process's umask.

    Raises:
        OSError: The disk or the folder refuses; nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN)}{ENDING}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    handle = os.open(beside, flags, mode)
    with _claimed(handle):
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
    """The cache folder ``name`` of this user; None for a user without a home folder.

    ``$XDG_CACHE_HOME/steadygrad/<name>``, or ``~/.cache/steadygrad/<name>``.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # HOME is not set and the user is unknown, as in a container
            return None
    return Path(base) / "steadygrad" / name


def sync_folder(folder: Path) -> None:
    """Sync moves into ``folder`` to the disk."""
    if os.name != "posix":  # on other systems a folder cannot be opened
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
    """Remove temporary files of killed writers of ``names`` in ``folder``; ``*`` stands for any.

    What somebody is writing at this moment stays, where the system has locks.
    """
    wanted = list(names)
    pattern = re.compile(rf"\.(.+)\.[0-9a-f]{{{2 * _TOKEN}}}{re.escape(ENDING)}")
    for path in folder.iterdir():
        found = pattern.fullmatch(path.name)
        if path.is_symlink() or not found:
            continue
        if any(fnmatch.fnmatchcase(found[1], name) for name in wanted) and not _is_claimed(path):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _claimed(handle: int) -> Iterator[None]:
    """Hold a lock on a file while it is written and moved; a killed writer's is gone with it."""
    if fcntl is None:
        yield
        return
    own = os.dup(handle)  # shares the lock, and outlives the closing of the file
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(own)


def _is_claimed(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
