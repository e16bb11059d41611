"""Classify handwritten characters from the path of the pen."""

import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from steadygrad.tasks.base import Sizes, Split
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.labelled import JudgedByNeighbour

Alphabet = Literal["all", "balinese", "early-aramaic", "greek", "korean", "latin"]
_FILE = DataFile(
    "omniglot/strokes_background_small1.zip",
    "8cb3960fb6cf4ccf5f064ad83169f828c36c36782a0f6e7faacb7ecfae4468a2",
    "https://raw.githubusercontent.com/brendenlake/omniglot/"
    "057f034baf2ecb8530bc5710e5a23584d2a519cc/python/strokes_background_small1.zip",
)
DRAWERS: dict[Split, range] = {"train": range(1, 15), "val": range(15, 18), "test": range(18, 21)}


@final
@dataclass(frozen=True)
class Strokes(JudgedByNeighbour):
    r"""Classify a character of an alphabet from the path of the pen.

    Each drawing is ``length`` points, evenly spaced along the path, in the order of drawing:
    position, and whether the pen was just set down. 20 people drew each character: the first
    14 train, three validate, the last three test, so that no writer is in two parts. Drawings are
    centred and divided by the larger standard deviation of the two axes.

    Args:
        alphabet: One of five, or ``"all"`` of their 136 characters.
        length: Points of a drawing, ``T``, from 2.

    Shapes:
        Inputs ``(T, B, 3)``: x, y, and 1 at the first point of a stroke; targets ``(B,)``.

    Baseline:
        A guess among so many characters. Solved by fewer wrong than the nearest neighbour
        (Euclidean, over all points).

    References:
        Lake, Salakhutdinov and Tenenbaum, *Human-Level Concept Learning through Probabilistic
        Program Induction*, 2015 (Omniglot, ``background_small1``; their task is another one, of
        one example per character).
    """

    alphabet: Alphabet = "all"
    length: int = 64

    name: ClassVar[str] = "strokes"

    def __post_init__(self) -> None:
        self.expect("length", self.length >= 2, "at least 2 points")

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=3, outputs=int(self.part("train")[1].max()) + 1, steps=self.length)

    def part(self, split: Split) -> tuple[Tensor, Tensor]:
        return _read(self.alphabet, self.length, split)


@lru_cache(maxsize=8)
def _read(alphabet: str, length: int, split: Split) -> tuple[Tensor, Tensor]:
    """Drawings ``(N, T, 3)`` of the drawers of ``split``, and their characters."""
    with zipfile.ZipFile(io.BytesIO(read_file(_FILE))) as packed:
        names = sorted(n for n in packed.namelist() if n.endswith(".txt") and _is_of(n, alphabet))
        kinds = {kind: i for i, kind in enumerate(dict.fromkeys(map(_character, names)))}
        kept = [n for n in names if int(n[:-4].rpartition("_")[2]) in DRAWERS[split]]
        drawn = [resampled(_strokes(packed.read(n).decode()), length) for n in kept]
    classes = [kinds[_character(n)] for n in kept]
    return torch.from_numpy(np.stack(drawn)).float(), torch.tensor(classes)


def _is_of(name: str, alphabet: str) -> bool:
    parts = name.split("/")  # .../Early_Aramaic/character01/0418_01.txt
    return len(parts) == 4 and (
        alphabet == "all" or parts[1].lower().replace("_", "-").startswith(alphabet)
    )


def _character(name: str) -> str:
    return name.rpartition("/")[0]


def _strokes(text: str) -> list[np.ndarray]:
    """Points ``(N, 2)`` of each stroke; a line is x, y and milliseconds."""
    strokes: list[list[list[float]]] = [[]]
    for line in text.split():
        if line == "BREAK":
            strokes.append([])
        elif line != "START":
            strokes[-1].append([float(v) for v in line.split(",")[:2]])
    return [np.array(stroke) for stroke in strokes if stroke]


def resampled(strokes: list[np.ndarray], length: int) -> np.ndarray:
    """``length`` points, evenly spaced along all strokes, ``(length, 3)``; see `Strokes`.

    A jump between two strokes has length zero; each stroke counts as one pixel longer, so that a
    dot is not lost.
    """
    points = np.concatenate(strokes)
    sizes = [len(stroke) for stroke in strokes]
    number = np.repeat(np.arange(len(strokes)), sizes)
    steps = np.linalg.norm(np.diff(points, axis=0, prepend=points[:1]), axis=1)
    steps[np.cumsum([0, *sizes[:-1]])] = 1.0
    way = np.cumsum(steps)
    at = np.linspace(way[0], way[-1], length)
    place = np.stack([np.interp(at, way, points[:, axis]) for axis in (0, 1)], axis=1)
    of = number[np.minimum(np.searchsorted(way, at), len(way) - 1)]
    place -= place.mean(0)
    place /= max(place.std(0).max(), 1.0)
    return np.column_stack([place, np.diff(of, prepend=-1) > 0])
