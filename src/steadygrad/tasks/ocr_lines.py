"""Recognise printed lines of text, trained with connectionist temporal classification."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.errors import InputError
from steadygrad.tasks.base import Batch, Batches, Better, Sizes, Split, epoch_generator
from steadygrad.tasks.benchmark import Benchmark
from steadygrad.tasks.datasets import DataFile, read_file

WRONG = "% characters wrong"
NATS = "nats per character"
BLANK = 0  # CTC's blank: no character
_HOME = (
    "https://raw.githubusercontent.com/Calamari-OCR/calamari/"
    "4071d137a5c96fe2a2f91052ae2a2f540593edad/calamari_ocr/test/data/uw3_50lines/"
)


@final
@dataclass(frozen=True)
class OCRLines(Benchmark):
    r"""Read a printed line, column by column, or with `steadygrad.nn.MDLSTM` as an image.

    50 lines of English journals in black and white, scaled to one height; of every ten, eight
    train, the ninth validates, the tenth is the test. The network outputs a character or a blank
    at every column, and connectionist temporal classification sums over all alignments of the
    text. Decoded by the best label of each column, with repetitions and blanks dropped.

    From so few lines as they are nothing learns to read; cut into words and joined anew they
    suffice for 8 % wrong characters (``benchmarks.papers.ctc_lines``). No measure of recognition
    at large.

    Args:
        height: Pixels of a line, from 8.

    Shapes:
        Inputs ``(T, B, height)``, ink from 0 to 1, a column a step, white after the end of a line;
        targets ``(B, 1 + L)``: columns of the line, then codes from 1, 0 after the end. Answers may
        have fewer steps than the image has columns.

    Baseline:
        Empty answers, 100 % of the characters wrong (insertions, deletions and substitutions over
        characters of the target). Solved at 50 %.

    References:
        Graves, Fernández, Gomez and Schmidhuber, *Connectionist Temporal Classification*, 2006.
        Wick, Reul and Puppe, *Calamari: A High-Performance Tensorflow-based Deep Learning Package
        for Optical Character Recognition*, 2020 (these lines, of UW-III, are its test data).
    """

    height: int = 24

    name: ClassVar[str] = "ocr-lines"
    every_step: ClassVar[bool] = True
    is_image: ClassVar[bool] = True
    better: ClassVar[Mapping[str, Better]] = {WRONG: "lower", NATS: "lower"}
    solved_if: ClassVar[tuple[str, float] | None] = (WRONG, 50.0)
    ends_when_solved: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.expect("height", self.height >= 8, "at least 8 pixels")

    @property
    def sizes(self) -> Sizes:
        longest = max(len(image) for image, _ in _part(self.height, "train"))
        return Sizes(inputs=self.height, outputs=1 + len(alphabet()), steps=longest)

    @property
    def no_memory(self) -> Mapping[str, float]:
        return {WRONG: 100.0}

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        lines = _part(self.height, split)
        order = torch.arange(len(lines))
        if shuffle is not None:
            order = torch.randperm(len(lines), generator=epoch_generator(shuffle))
        return _Lines(lines, order.split(size))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Nats per character."""
        nats, characters = _nats(outputs, targets)
        return nats / characters

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        nats, characters = _nats(outputs, targets)
        wrong = sum(
            edits(read(labels[:columns]), wanted[wanted > 0].tolist())
            for labels, columns, wanted in zip(
                outputs.argmax(-1).T, _columns(outputs, targets), targets[:, 1:], strict=True
            )
        )
        return torch.tensor([float(wrong), float(nats), float(characters)], dtype=torch.float64)

    def figures(self, total: Tensor) -> dict[str, float]:
        wrong, nats, characters = total.tolist()
        return {WRONG: 100 * wrong / characters, NATS: nats / characters}


def _columns(outputs: Tensor, targets: Tensor) -> Tensor:
    """Time steps of the outputs that belong to each line; the model may subsample columns."""
    columns = targets[:, 0]
    return (columns * len(outputs)).div(columns.max(), rounding_mode="floor").clamp(min=1)


def _nats(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    codes = targets[:, 1:]
    lengths = (codes > 0).sum(1)
    nats = F.ctc_loss(
        outputs.log_softmax(-1),
        codes,
        _columns(outputs, targets),
        lengths,
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,  # a line with more characters than columns has no alignment
    )
    return nats, lengths.sum()


def read(labels: Tensor) -> list[int]:
    """Decode the best labels ``(T,)``: merge repetitions, drop blanks."""
    return [label for label, _ in groupby(labels.tolist()) if label != BLANK]


def edits(said: list[int], wanted: list[int]) -> int:
    """Fewest insertions, deletions and substitutions from one to the other (Levenshtein)."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(said, start=1):
        left, row[0] = row[0], i
        for j, b in enumerate(wanted, start=1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (a != b))
    return row[-1]


@final
@dataclass(frozen=True)
class _Lines(Batches):
    lines: list[tuple[Tensor, Tensor]]
    cut: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, index: int) -> Batch:
        images, codes = zip(*(self.lines[i] for i in self.cut[index].tolist()), strict=True)
        columns = torch.tensor([len(image) for image in images])
        padded = torch.nn.utils.rnn.pad_sequence(list(codes), batch_first=True, padding_value=BLANK)
        return Batch(
            torch.nn.utils.rnn.pad_sequence(list(images)), torch.cat([columns[:, None], padded], 1)
        )


@lru_cache(maxsize=1)
def _sums() -> dict[str, str]:
    """The checksum of each file, from the output of sha256sum."""
    text = files("steadygrad.tasks").joinpath("ocr_lines.sha256").read_text()
    return {name: sha256 for sha256, name in (line.split() for line in text.splitlines())}


def _file(name: str) -> bytes:
    return read_file(DataFile(f"ocr_lines/{name}", _sums()[name], _HOME + name))


@lru_cache(maxsize=1)
def alphabet() -> str:
    """All characters; code 1 is the first."""
    return _file("full_codec.txt").decode().rstrip("\n")


@lru_cache(maxsize=8)
def _part(height: int, split: Split) -> list[tuple[Tensor, Tensor]]:
    """Images ``(columns, height)`` and codes of a part."""
    names = sorted(name for name in _sums() if name.endswith(".png"))
    tenth = {"val": (8,), "test": (9,)}.get(split, range(8))
    return [
        (_image(_file(name), height), _codes(_file(name.replace(".bin.png", ".gt.txt")).decode()))
        for i, name in enumerate(names)
        if i % 10 in tenth
    ]


def _codes(text: str) -> Tensor:
    return torch.tensor([alphabet().index(c) + 1 for c in text.rstrip("\n")])


def _image(png: bytes, height: int) -> Tensor:
    try:
        # optional dependency
        from PIL import Image
    except ImportError as error:
        raise InputError(
            "reading the images needs Pillow, which is not installed; "
            "install it with: pip install 'steadygrad[images]'"
        ) from error
    with Image.open(io.BytesIO(png)) as image:
        grey = image.convert("L")
        width = max(1, round(grey.width * height / grey.height))
        pixels = np.asarray(grey.resize((width, height), Image.Resampling.BOX))
    return 1 - torch.from_numpy(pixels.T.copy()).float() / 255
