"""Find data sets by name, verify them, and download them from their public home if possible."""

import gzip
import hashlib
import lzma
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from steadygrad import files
from steadygrad.errors import InputError
from steadygrad.files import cache_folder

VARIABLE = "STEADYGRAD_DATA"
MOST = 1 << 31  # bytes of a download; ten times the largest set
_TIMEOUT = 30.0  # timeout in seconds
_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        path: Path below the data folder, ``"silverbox/SNLS80mV.csv"``, plain or packed (``.gz``,
            ``.xz``).
        sha256: Of the unpacked content, since the same data can be packed in many ways.
        home: Address to download it from, or nothing.
        hint: What to do if it cannot be downloaded.
    """

    path: str
    sha256: str
    home: str = ""
    hint: str = ""


def read_file(file: DataFile) -> bytes:
    """Return the bytes of a file, unpacked if it ends with ``.gz`` or ``.xz``.

    Looked up below the folder ``STEADYGRAD_DATA`` and in the cache (``~/.cache/steadygrad/data``),
    otherwise downloaded into the cache.

    Raises:
        InputError: It is not available, or damaged; no partial download is left behind.
    """
    for folder in _folders():
        for ending in ("", *_UNPACK):
            path = folder / (file.path + ending)
            if path.is_file():
                return _checked(file, path)
    if not file.home:
        raise InputError(f"{_name(file)}: {_missing(file)}{_hint(file)}")
    return _checked(file, _fetch(file))


def _folders() -> list[Path]:
    given = os.environ.get(VARIABLE)
    return [Path(p) for p in (given, cache_folder("data")) if p]


def _checked(file: DataFile, path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data = _UNPACK.get(path.suffix, bytes)(data)
    # errors of truncated or damaged packed files; a decompression bomb raises the last
    except (OSError, EOFError, lzma.LZMAError, zlib.error, MemoryError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); delete it to have it fetched"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise InputError(
            f"{path}: is damaged or another version: sha256 {found[:12]}..., expected "
            f"{file.sha256[:12]}...; replace or delete it"
        )
    return data


def _fetch(file: DataFile) -> Path:
    packed = Path(file.home).suffix
    needs = packed in _UNPACK and not file.path.endswith(packed)
    cache = cache_folder("data")
    if cache is None:
        raise InputError(
            f"{_name(file)}: {_missing(file)}, and there is no home folder to fetch it into;"
            f" set {VARIABLE} or XDG_CACHE_HOME"
        )
    target = cache / (file.path + (packed if needs else ""))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(file.home, timeout=_TIMEOUT) as answer:
            data = answer.read(MOST + 1)
        if len(data) > MOST:
            raise ValueError(f"more than {MOST >> 20} MiB")
        files.replace(target, data)
    except (OSError, ValueError) as error:  # every error of urllib's is an OSError
        reason = getattr(error, "reason", error)
        raise InputError(
            f"{_name(file)}: {_missing(file)}, and fetching {file.home} failed ({reason})"
        ) from None
    return target


def _name(file: DataFile) -> str:
    return f"data set {Path(file.path).parts[0]}"


def _missing(file: DataFile) -> str:
    where = " or ".join(str(f) for f in _folders())
    told = "" if os.environ.get(VARIABLE) else f" ({VARIABLE} is not set)"
    return f"no {file.path} below {where}{told}"


def _hint(file: DataFile) -> str:
    return f"; {file.hint}" if file.hint else f"; put it there, or set {VARIABLE} to its folder"
