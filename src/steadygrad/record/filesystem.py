"""Find out which file system holds a path: SQLite's write-ahead log is unsafe over a network."""

from pathlib import Path

_MOUNTS = Path("/proc/mounts")
_NETWORK = frozenset(
    "9p afs beegfs ceph cifs coda davfs glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs panfs "
    "pvfs2 smb3 smbfs virtiofs wekafs".split()
)


def is_network(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Tell whether ``path`` lies on a file system that other machines may share.

    The write-ahead log keeps its index in shared memory, which only processes of one machine see.
    Any file system in user space counts as shared (``fuse.sshfs``, ``fuse.s3fs``, ...): a rollback
    journal where none was needed costs speed, a log where it is unsafe costs the record.

    Args:
        path: A file or folder; it need not exist.
        mounts: Linux's table of mounts. Without one (other systems) the answer is no.
    """
    kind = _kind(path, mounts)
    return kind in _NETWORK or kind.startswith("fuse.")


def _kind(path: Path, mounts: Path) -> str:
    """Return the type of the deepest mount above ``path``, empty if unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place, depth, kind = path.resolve(), -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescaped(fields[1]))
        # A later mount on the same point hides the earlier one, hence >= and not >.
        if place.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), fields[2]
    return kind


def _unescaped(point: str) -> str:
    """Undo the kernel's octal escapes for space, tab, newline and backslash."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, char)
    return point
