"""Tensors and facts in one safetensors file, sealed by a checksum; never a pickle.

The header contains a SHA-256 of the whole file, computed with 64 zeros in its place, so that every
changed bit is detected, in a tensor, a name or a fact.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.record.ownership import KEY

DIGEST = "sha256"
_NONE = "0" * 64
# unambiguous, because quotes within facts are escaped
_PLACE = re.compile(rb'"sha256":"([0-9a-f]{64})"')
# A zip archive (torch.save), a pickle of protocol 2 and up, and the text protocol of a pickle.
PICKLE_MARKS = (b"PK\x03\x04", b"\x80", b"(dp", b"ccopy_reg")


@dataclass(frozen=True)
class Sealed:
    """The content of a sealed file.

    Args:
        tensors: Tensors by name, on the CPU.
        facts: Everything else, as JSON values.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """Return the tensors below ``name/``, without that prefix."""
        start = f"{name}/"
        return {k.removeprefix(start): t for k, t in self.tensors.items() if k.startswith(start)}


def sealed(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return tensors and facts as safetensors with a checksum over all of it."""
    # safetensors refuses tensors that share memory or are not contiguous.
    own = {k: t.detach().cpu().clone().contiguous() for k, t in tensors.items()}
    data = _in_order(save(own, metadata={KEY: json.dumps(facts), DIGEST: _NONE}))
    place = _place(data)
    assert place is not None
    digest = hashlib.sha256(data).hexdigest()
    data[slice(*place)] = digest.encode()
    return bytes(data)


def _in_order(data: bytes) -> bytearray:
    """Sort the metadata of the header, which safetensors writes in random order.

    The same training then writes the same bytes, and its files can be compared.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight bytes
    return bytearray(len(text).to_bytes(8, "little") + text + data[end:])


def unsealed(
    path: Path, form: str, what_to_do: str, *, or_without_checksum: str | None = None
) -> Sealed:
    """Verify and read a file that `sealed` made.

    Args:
        path: The file.
        form: The format that its facts must name.
        what_to_do: End of the error messages.
        or_without_checksum: An older format that is accepted, too.

    Raises:
        InputError: A pickle, a truncated or damaged file, or safetensors of something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    # Byte 9 of safetensors opens its JSON header. Byte 1, of the header's length, may be 0x80 as in
    # a pickle, so it cannot decide.
    if data.startswith(PICKLE_MARKS) and data[8:9] != b"{":
        raise InputError(
            f"{path}: is a pickle (torch.save), expected safetensors; reading a pickle can run "
            f"any code, so it is refused: {what_to_do}"
        )
    try:
        metadata = _metadata(data)
        facts = _facts(metadata.get(KEY, "{}"))
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError, RecursionError) as error:
        # safetensors' own error, and that of a header that is not JSON
        raise _damaged(path, " ".join(str(error).split())[:120], what_to_do) from None
    found = facts.get("format") if isinstance(facts, dict) else None
    if found is not None and found == or_without_checksum and DIGEST not in metadata:
        return Sealed(tensors, facts)
    if found != form:
        raise InputError(
            f"{path}: holds safetensors, but no {form!r} (found {found!r:.40}): {what_to_do}"
        )
    place = _place(data)
    if place is None or _digest(data, place) != data[slice(*place)].decode():
        raise _damaged(path, "its checksum does not fit its content", what_to_do)
    return Sealed(tensors, facts)


def _facts(text: str) -> Any:
    """Parse the facts; other text (of an old file of weights alone) is returned as it is."""
    return json.loads(text) if text[:1] in "{[" else text


def _damaged(path: Path, said: str, what_to_do: str) -> InputError:
    return InputError(f"{path}: is truncated or damaged ({said}); it cannot be used: {what_to_do}")


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata in the header of safetensors."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError("its metadata are not texts")
    return found


def _place(data: bytes | bytearray) -> tuple[int, int] | None:
    """The position of the checksum in the file; None unless the header has exactly one."""
    length = int.from_bytes(data[:8], "little")
    found = list(_PLACE.finditer(data[: 8 + length]))
    return found[0].span(1) if len(found) == 1 else None


def _digest(data: bytes, place: tuple[int, int]) -> str:
    found = hashlib.sha256(memoryview(data)[: place[0]])
    found.update(_NONE.encode())
    found.update(memoryview(data)[place[1] :])
    return found.hexdigest()
