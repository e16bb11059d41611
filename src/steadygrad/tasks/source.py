"""Read a file as text, or say in one sentence why it is not one."""

from pathlib import Path

from steadygrad.errors import InputError

MAX_BYTES = 512 * 2**20  # past this, reading alone outgrows an ordinary machine's memory
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_bytes(path: Path, *, limit: int = MAX_BYTES) -> bytes:
    """Return what ``path`` holds.

    Raises:
        InputError: Missing, a directory, unreadable, empty, or larger than ``limit`` bytes.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give one file inside it")
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name (searched in {Path.cwd()})")
    if not path.is_file():  # a pipe or a device could block for ever
        raise InputError(f"{path}: is not a regular file; save the data to a file first")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path}: is empty; expected a CSV with a header line, or a text")
    if size > limit:
        raise InputError(
            f"{path}: holds {size / 2**20:.0f} MiB, more than the {limit / 2**20:.0f} MiB"
            " read at once; cut it into smaller files"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from None


def decode(data: bytes, path: Path) -> str:
    """Decode UTF-8, with or without its mark.

    Raises:
        InputError: UTF-16, binary data, or bytes that are not UTF-8.
    """
    if data[:2] in UTF16_MARKS:
        raise InputError(f"{path}: is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    nul = data.find(b"\0")
    if nul >= 0:
        raise InputError(
            f"{path}: byte {nul} is zero, so this is UTF-16 or binary; expected UTF-8 text"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8; save it as UTF-8"
            " (iconv -f LATIN1 -t UTF-8, if it is Latin-1)"
        ) from None
