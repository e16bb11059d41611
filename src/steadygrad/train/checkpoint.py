"""Checkpoints: a whole run in one safetensors file, replaced atomically; never a pickle.

A checksum over the whole file detects every changed bit; see `steadygrad.sealed`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from steadygrad import files
from steadygrad.errors import InputError
from steadygrad.sealed import Sealed, sealed, unsealed

FORMAT = "steadygrad checkpoint 2"
FIRST = "steadygrad checkpoint 1"
"""Without a checksum, and without the state for rollbacks: see `_of_first_format`."""
_AGAIN = "move it away and start again with --overwrite, or give another --out"


@dataclass(frozen=True)
class Checkpoint(Sealed):
    """Tensors by name, and everything else as JSON.

    Args:
        tensors: ``model/...``, ``best/...``, ``optimizer/<parameter>/...``, ``rng/...``,
            ``state/<n>``, ``remedy/<n>/...``, ``watch/...``, on the CPU; below ``good/`` the same
            for the state that a rollback restores.
        facts: JSON-able values: the run's options, its progress, the fingerprint of its data.
    """


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``path`` atomically: after a kill at any moment it is the old file or the new one.

    The old one is replaced only after the new one was read back from the disk and verified.

    Raises:
        OSError: The disk refuses, or returns other data than was written.
    """
    data = sealed(checkpoint.tensors, {"format": FORMAT, **checkpoint.facts})

    def check(written: Path) -> None:
        if _fresh(written) != data:
            raise OSError(f"{path}: the disk returned other data than was written")

    files.replace(path, data, check=check)


def check_fits(path: Path, checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors do not fit this model, before anything is written.

    Raises:
        InputError: Tensors are missing, unknown, or of another shape.
    """
    wanted = {name: _told(tensor) for name, tensor in weights.items()}
    for group in ("model", "best"):
        found = {name: _told(tensor) for name, tensor in checkpoint.group(group).items()}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise InputError(
                    f"{path}: is of another model: {group}/{name} has shape"
                    f" {found.get(name, 'none')} there, {wanted.get(name, 'none')} here;"
                    " start again with --overwrite"
                )
    if "rng/cpu" not in checkpoint.tensors:
        raise InputError(f"{path}: holds no random state; start again with --overwrite")


def _told(tensor: Tensor) -> str:
    kind = "" if tensor.dtype == torch.float32 else f" of {tensor.dtype}"
    return f"{tuple(tensor.shape)}{kind}"


def read(path: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        InputError: A pickle, a truncated or damaged file, or safetensors of something else.
    """
    found = unsealed(path, FORMAT, _AGAIN, or_without_checksum=FIRST)
    found = Checkpoint(found.tensors, found.facts)
    return _of_first_format(found) if found.facts["format"] == FIRST else found


def _fresh(path: Path) -> bytes:
    """Read a file from the disk, after asking the system to drop its cached pages."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def _of_first_format(old: Checkpoint) -> Checkpoint:
    """Convert format 1 to 2: rollbacks restore the state of the checkpoint itself."""
    return Checkpoint(old.tensors, {**old.facts, "format": FORMAT})
