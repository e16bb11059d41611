"""The kind of a file by its first bytes: plain, packed (.gz, .bz2, .xz, .zip), or binary."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from steadygrad.errors import InputError

HEAD = 65536  # bytes that are looked at


class _Zstd(io.RawIOBase):
    """The content of a file packed with zstd; unlike its library, refuses one that is cut off."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._new = zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._file = file
        self.seek(0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._file.read(2**17)
            if not packed:
                if not self._frame.eof:
                    raise EOFError("it ends inside a frame of zstd")
                return 0
            if self._frame.eof:
                self._frame = self._new()
            try:
                self._left = memoryview(self._frame.decompress(packed))
            except self._error as error:
                raise OSError(str(error)) from None
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if place or whence:
            raise io.UnsupportedOperation("a packed file is read from its beginning")
        self._file.seek(0)
        self._frame = self._new()
        self._left = memoryview(b"")
        return 0


UNPACKERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": lambda file: bz2.BZ2File(file),
    b"\xfd7zXZ\0": lambda file: lzma.LZMAFile(file),
    b"\x28\xb5\x2f\xfd": _Zstd,
}
TABLES: dict[bytes, str] = {
    b"PAR1": "parquet",
    b"ARROW1": "feather",
    b"\xd0\xcf\x11\xe0": "xls",
}
# Named, so that the message says more than "binary".
REFUSED: dict[bytes, str] = {
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF",
    b"\x93NUMPY": "a NumPy array; save it as CSV with a header (numpy.savetxt)",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"MATLAB": "a MATLAB file; save the table as CSV there (writetable)",
    b"\x80\x04": "a pickle, which is never read; save the table as CSV",
    b"\x80\x05": "a pickle, which is never read; save the table as CSV",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}

# What reading a file raises that is damaged, or cannot be read.
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def check_path(path: Path) -> int:
    """Return the size of a regular file that is not empty.

    Raises:
        InputError: Missing, a directory, a pipe, unreadable or empty.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give one file inside it")
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name (searched in {Path.cwd()})")
    if not path.is_file():  # a pipe or a device could block forever
        raise InputError(f"{path}: is not a regular file; save the data to a file first")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path}: is empty; expected a table with a header line, or a text")
    return size


def open_file(path: Path, data: bytes | None = None) -> tuple[IO[bytes], IO[bytes], str]:
    """Open a file, unpacked if it is packed.

    Args:
        path: The file, or where ``data`` comes from.
        data: Its content, if it has been read already.

    Returns:
        The bytes that are on the disk (to tell how far the reading is), those unpacked, and the
        name of the member of a .zip or else of the file.

    Raises:
        InputError: It cannot be opened, or is an archive of several files.
    """
    if data is None:
        check_path(path)
    try:
        raw: IO[bytes] = path.open("rb") if data is None else io.BytesIO(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    try:
        return _unpacked(raw, path)
    except (InputError, OSError):
        raw.close()
        raise


def _unpacked(raw: IO[bytes], path: Path) -> tuple[IO[bytes], IO[bytes], str]:
    head = raw.read(512)
    raw.seek(0)
    for mark, unpack in UNPACKERS.items():
        if head.startswith(mark):
            try:
                unpacked = unpack(raw)
            except ModuleNotFoundError as error:
                raise InputError(
                    f"{path}: is packed with zstd; unpack it first (unzstd), or pip install"
                    f" {error.name}"
                ) from None
            _no_tar(_peek(unpacked, path), path)
            return raw, unpacked, path.stem
    if head.startswith(b"PK\x03\x04"):
        return _open_zip(raw, path)
    _no_tar(head, path)
    return raw, raw, path.name


def _open_zip(raw: IO[bytes], path: Path) -> tuple[IO[bytes], IO[bytes], str]:
    try:
        archive = zipfile.ZipFile(raw)
        names = [i.filename for i in archive.infolist() if not i.is_dir()]
        if "[Content_Types].xml" in names:
            raw.seek(0)
            return raw, raw, path.with_suffix(".xlsx").name
        names = [n for n in names if not n.startswith("__MACOSX/")]
        if "mimetype" in names and "content.xml" in names:
            raise InputError(f"{path}: is an OpenDocument file; save the table as CSV or .xlsx")
        if len(names) != 1:
            told = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise InputError(
                f"{path}: a .zip with {len(names)} files ({told}); unpack it and give one of them"
            )
        return raw, archive.open(names[0]), names[0]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path}: this .zip cannot be unpacked ({error})") from None


def _peek(file: IO[bytes], path: Path) -> bytes:
    try:
        head = file.read(512)
        file.seek(0)
    except UNREADABLE as error:
        raise InputError(f"{path}: is packed and cannot be unpacked ({error})") from None
    return head


def _no_tar(head: bytes, path: Path) -> None:
    if head[257:262] == b"ustar":
        raise InputError(f"{path}: is a tar archive; unpack it and give one file of it")


def format_of(head: bytes, name: str, path: Path) -> str:
    """Name the format: ``text``, ``arff``, ``tsf``, ``jsonl``, ``json``, ``parquet``, ...

    Raises:
        InputError: A kind of file that holds no table which could be read here.
    """
    for mark, what in REFUSED.items():
        if head.startswith(mark):
            raise InputError(f"{path}: is {what}")
    for mark, kind in TABLES.items():
        if head.startswith(mark):
            return kind
    ending = Path(name).suffix.lower()
    if ending == ".xlsx" and head.startswith(b"PK"):
        return "xlsx"
    lines = [line.strip().lower() for line in head.splitlines()]
    told = [line for line in lines if line and line[:1] not in (b"%", b"#")]
    if told and told[0].startswith(b"@"):
        is_tsf = ending == ".tsf" or any(line.startswith(b"@frequency") for line in told)
        if is_tsf:
            return "tsf"
        if any(line.startswith(b"@attribute") for line in told):
            return "arff"
    if told and ending in (".jsonl", ".ndjson", ".json") and told[0][:1] in (b"{", b"["):
        # One object a line, whatever the ending: none goes on over the next line.
        is_lines = len(told) > 1 and all(line.rstrip()[-1:] == b"}" for line in told[:2])
        is_lines = is_lines and told[1][:1] == b"{"
        whole = told[0][:1] == b"[" or (ending == ".json" and not is_lines)
        return "json" if whole else "jsonl"
    if told and told[0].startswith(b"{") and told[0].endswith(b"}") and b'":' in told[0]:
        return "jsonl"
    return "text"
