"""Data sets by name: found, checked, and fetched from their public home where that can be done."""

import gzip
import hashlib
import lzma
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from steadygrad.errors import InputError

VARIABLE = "STEADYGRAD_DATA"
_TIMEOUT = 30.0  # seconds without an answer
_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        path: Where it lies below the data folder: ``"silverbox/SNLS80mV.csv"``, as it is or
            packed (``.gz``, ``.xz``).
        sha256: Of what is inside if it is packed, since the same data can be packed in many ways.
        home: Where it can be fetched, or nothing.
        hint: What to do where it cannot.
    """

    path: str
    sha256: str
    home: str = ""
    hint: str = ""


def read_file(file: DataFile) -> bytes:
    """Return the bytes of a file, unpacked if it ends with ``.gz`` or ``.xz``.

    It is looked for below the folder ``STEADYGRAD_DATA`` and in the cache
    (``~/.cache/steadygrad/data``), and then fetched into the cache.

    Raises:
        InputError: It is nowhere to be had, or damaged; nothing half fetched is left behind.
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
    return [Path(p) for p in (given, _cache()) if p]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "steadygrad" / "data"


def _checked(file: DataFile, path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data = _UNPACK.get(path.suffix, bytes)(data)
    except (OSError, EOFError, lzma.LZMAError) as error:  # a cut or damaged packed file is one
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
    target = _cache() / (file.path + (packed if needs else ""))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with (
            os.fdopen(handle, "wb") as out,
            urllib.request.urlopen(file.home, timeout=_TIMEOUT) as answer,
        ):
            shutil.copyfileobj(answer, out)
        Path(name).replace(target)
    except (OSError, ValueError) as error:  # every error of urllib's is an OSError
        Path(name).unlink(missing_ok=True)
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
