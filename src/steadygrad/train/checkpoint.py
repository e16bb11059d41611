"""A whole run in one safetensors file, replaced in one move; a pickle is never read."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from steadygrad.errors import InputError

FORMAT = "steadygrad checkpoint 1"
KEY = "steadygrad"
# A zip archive (torch.save), a pickle of protocol 2 and up, and the text protocol of a pickle.
PICKLE_MARKS = (b"PK\x03\x04", b"\x80", b"(dp", b"ccopy_reg")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and everything else as JSON.

    Args:
        tensors: ``model/...``, ``best/...``, ``optimizer/<parameter>/...``, ``rng/...``,
            ``state/<n>``, ``remedy/<n>/...``: on the CPU.
        facts: JSON-able: the run's options, its progress, the fingerprint of its data.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """Return the tensors below ``name/``, by the rest of their names."""
        start = f"{name}/"
        return {k.removeprefix(start): t for k, t in self.tensors.items() if k.startswith(start)}


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``path`` so that a kill at any moment leaves the old file or the new one, whole."""
    # safetensors refuses tensors that share memory; one that is not contiguous it cannot lay out.
    tensors = {k: t.detach().cpu().clone().contiguous() for k, t in checkpoint.tensors.items()}
    facts = json.dumps({"format": FORMAT, **checkpoint.facts})
    replace_file(path, save(tensors, metadata={KEY: facts}))


def check_fits(path: Path, checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors are not those of this model, before anything is written.

    Raises:
        InputError: Missing or unknown tensors, or another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for group in ("model", "best"):
        found = {name: tuple(tensor.shape) for name, tensor in checkpoint.group(group).items()}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise InputError(
                    f"{path}: is of another model: {group}/{name} has shape"
                    f" {found.get(name, 'none')} there, {wanted.get(name, 'none')} here;"
                    " start again with --overwrite"
                )
    if "rng/cpu" not in checkpoint.tensors:
        raise InputError(f"{path}: holds no random state; start again with --overwrite")


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one move, and make sure that it has reached the disk."""
    beside = path.with_name(f"{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the move itself is only on the disk when its folder is
    finally:
        os.close(folder)


def read(path: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        InputError: A pickle, a truncated or damaged file, or safetensors of something else.
    """
    with path.open("rb") as file:
        start = file.read(16)
    # The ninth byte of safetensors opens its JSON header. The first is the header's length, and
    # may well be 0x80, as a pickle's.
    if start.startswith(PICKLE_MARKS) and start[8:9] != b"{":
        raise InputError(
            f"{path}: is a pickle (torch.save), where safetensors is expected; a pickle can run"
            " any code when it is read, so it is not: start again with --overwrite"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise InputError(
            f"{path}: is truncated or damaged ({error}); it cannot be resumed:"
            " start again with --overwrite"
        ) from None
    try:
        facts = json.loads(metadata[KEY])
    except (KeyError, json.JSONDecodeError):
        facts = {}
    if facts.get("format") != FORMAT:
        raise InputError(
            f"{path}: holds safetensors, but no {FORMAT!r} (found {facts.get('format')!r});"
            " give another --out, or --overwrite"
        )
    return Checkpoint(tensors, facts)
