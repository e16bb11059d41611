"""Quantised weights as bits: what is shipped to a small machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from steadygrad.nn.quantise import RowNorm, quantised, unit_rows
from steadygrad.nn.quantisers import QUANTISERS, Quantiser

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Packed:
    """The state of a quantised layer, its weights as bits.

    Attributes:
        notes: Per quantised weight ``"method bits blocks rows columns"``; per tensor that is zero
            throughout ``"zeros shape"``.
        tensors: ``<weight>.codes`` (uint8, packed), ``<weight>.scales`` and ``<weight>.gain``
            where there are such, and everything that is not quantised.
    """

    notes: dict[str, str]
    tensors: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; the file adds a header of about a kilobyte."""
        return sum(t.nbytes for t in self.tensors.values())

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        save_file({n: t.contiguous() for n, t in self.tensors.items()}, path, metadata=self.notes)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Packed":
        """Read what `save` wrote.

        Raises:
            ValueError: The file is none of ours.
        """
        try:
            with safe_open(path, framework="pt") as file:
                notes = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path}: not a file of packed weights ({error})") from error
        if not any(note.partition(" ")[0] in QUANTISERS for note in notes.values()):
            raise ValueError(f"{path}: expected packed weights, found none in this file")
        return cls(notes, tensors)


@torch.no_grad()
def pack(layer: nn.Module) -> Packed:
    """Pack a layer that `quantise_` treated: 1 bit, 2 bits or m bits a weight.

    Args:
        layer: The layer. Scales are stored in the dtype of the weights, one set per gate.

    Raises:
        ValueError: Nothing in ``layer`` is quantised.
    """
    notes: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, quantiser in quantised(layer).items():
        steps = cast(nn.ModuleDict, layer.parametrizations)[name]
        weight = cast(Tensor, steps.original)
        coded = quantiser.coded(weight)
        sizes = f"{quantiser.bits} {quantiser.blocks} {weight.shape[0]} {weight.shape[1]}"
        notes[name] = f"{quantiser.name} {sizes}"
        codes = torch.cat([c for c, _ in coded])
        tensors[f"{name}.codes"] = torch.from_numpy(_to_bits(codes, quantiser.bits))
        scales = torch.stack([s for _, s in coded])
        if scales.numel():
            tensors[f"{name}.scales"] = scales.cpu()
        tensors |= {f"{name}.gain": s.gain.cpu() for s in _steps(steps) if isinstance(s, RowNorm)}
    for name, value in layer.state_dict().items():
        if name.removeprefix("parametrizations.").partition(".")[0] in notes:
            continue
        if value.numel() and not value.any():
            notes[name] = "zeros " + " ".join(map(str, value.shape))
        else:
            tensors[name] = value.detach().cpu().clone()
    return Packed(notes, tensors)


@torch.no_grad()
def unpack_(layer: M, packed: Packed) -> M:
    """Put packed weights into a plain layer, which then computes what the quantised one did.

    The quantised weights arrive bit by bit as they were.

    Args:
        layer: A layer of the same kind and sizes, not quantised, in place.
        packed: From `pack` or `Packed.load`.

    Raises:
        ValueError: Names or shapes do not fit; the layer is then untouched.
    """
    state = layer.state_dict()
    values = {name: _value(name, note, packed, state) for name, note in packed.notes.items()}
    values |= {n: t for n, t in packed.tensors.items() if n.partition(".")[0] not in packed.notes}
    shapes = {n: tuple(t.shape) for n, t in values.items()}
    wanted = {n: tuple(t.shape) for n, t in state.items()}
    if shapes != wanted:
        differ = sorted(n for n in {*shapes, *wanted} if shapes.get(n) != wanted.get(n))
        raise ValueError(
            f"unpack_: this {type(layer).__name__} does not fit the packed weights: "
            + "; ".join(
                f"{n}: expected {wanted.get(n, 'nothing')}, got {shapes.get(n, 'nothing')}"
                for n in differ[:4]
            )
        )
    layer.load_state_dict(values)
    return layer


def _value(name: str, note: str, packed: Packed, state: dict[str, Tensor]) -> Tensor:
    kind, *sizes = note.split()
    if kind == "zeros":
        return torch.zeros([int(s) for s in sizes])
    bits, blocks, rows, columns = map(int, sizes)
    dtype = state[name].dtype if name in state else torch.float32
    codes = _from_bits(packed.tensors[f"{name}.codes"].numpy(), bits, rows * columns)
    parts = torch.from_numpy(codes).view(rows, columns).chunk(blocks)
    scales = packed.tensors.get(f"{name}.scales", torch.empty(blocks, 0, dtype=dtype))
    quantiser = _quantiser(kind, blocks, bits)
    weight = torch.cat([quantiser.decode(c, s) for c, s in zip(parts, scales, strict=True)])
    gain = packed.tensors.get(f"{name}.gain")
    return weight if gain is None else gain[:, None] * unit_rows(weight)


def _quantiser(kind: str, blocks: int, bits: int) -> Quantiser:
    options = {"bits": bits} if kind == "alternating" else {}
    return QUANTISERS[kind](blocks, torch.empty(0), **options)


def _to_bits(codes: Tensor, bits: int) -> np.ndarray:
    flat = codes.cpu().numpy().reshape(-1, 1)
    return np.packbits((flat >> np.arange(bits, dtype=np.uint8)) & 1)


def _from_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    each = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return (each << np.arange(bits, dtype=np.uint8)).sum(1).astype(np.uint8)


def _steps(parametrised: nn.Module) -> list[nn.Module]:
    return list(parametrised.children())
