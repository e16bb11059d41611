"""Predict the next character or word of a text."""

import contextlib
import lzma
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from steadygrad.errors import InputError
from steadygrad.reading.prose import read_prose
from steadygrad.tasks.base import (
    BEYOND,
    BLOCKS,
    Batch,
    Batches,
    Margin,
    Score,
    Sizes,
    Split,
    Task,
)
from steadygrad.tasks.ngrams import Ngrams, witten_bell
from steadygrad.tasks.scoring import ACCURACY, BITS, SymbolScores
from steadygrad.tasks.text_spec import UNKNOWN, Symbol, TextSpec

MAX_TEXT = 128 * 2**20
MAX_SYMBOLS = 10_000
LONGEST_WORD = 40  # mean length of words above which the text has no words
ORDER = 5  # of the n-gram for comparison
NGRAM = f"{ORDER}-gram with backing off"
MOST_PACKED = 2**20  # symbols to compress, about a second
MARGIN_ROWS = 64  # rows of the test part in one batch
LEAST_BLOCK = 200  # symbols in a block for the estimate of noise
SMALLEST_SPLIT = 2_000  # symbols; for a shorter text, a tenth is too little to score on


@final
@dataclass(frozen=True, eq=False)
class Text(SymbolScores, Task):
    """Predict each symbol of a text from all before it.

    The training part is split into contiguous rows, and row ``b`` of a batch continues where row
    ``b`` of the batch before it ended: the state is carried over, the gradient is cut (truncated
    backpropagation through time). The last tenth is the test part, the tenth before it the
    validation part.

    Args:
        codes: The whole text, ``(symbols,)``.
        vocabulary: Symbols by code.
        window: Time steps ``T`` between two cuts of the gradient.
        symbol: Kind of symbol.
        notes: How the text was prepared.
        origin: File name, for the record.
        parts: First and one past the last symbol of each part.

    References:
        Mikolov et al., *Recurrent Neural Network Based Language Model*, 2010.
        Williams and Peng, *An Efficient Gradient-based Algorithm for On-line Training of
        Recurrent Network Trajectories*, 1990 (truncated backpropagation through time).
    """

    codes: Tensor
    vocabulary: tuple[str, ...]
    window: int
    symbol: Symbol
    notes: tuple[str, ...]
    origin: dict[str, object]
    parts: Mapping[Split, tuple[int, int]]

    input_kind: ClassVar = "symbols"
    every_step: ClassVar = True

    @property
    def sizes(self) -> Sizes:
        return Sizes(inputs=len(self.vocabulary), outputs=len(self.vocabulary), steps=self.window)

    def part(self, split: Split) -> Tensor:
        """Return the codes of ``split``; a text too small to be split is all of them."""
        first, last = self.parts[split]
        return self.codes[first:last]

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        codes = self.part(split)
        rows = max(1, min(size, len(codes) // (4 * self.window)))
        if shuffle is not None and rows > 1:
            # Another start in each epoch moves the cuts of the gradient, so that no pair of
            # neighbours is always separated.
            codes = codes[int(np.random.default_rng(shuffle).integers(self.window)) :]
        length = (len(codes) - 1) // rows  # the last symbol is only a target
        inputs = codes[: rows * length].view(rows, length).T
        targets = codes[1 : rows * length + 1].view(rows, length).T
        return _Cuts(inputs, targets, self.window)

    def data_spec(self) -> Mapping[str, Any]:
        return {"kind": "text", **TextSpec(self.vocabulary, self.symbol, self.window).plain()}

    def naive(self, split: Split) -> list[Score]:
        train, codes = self.part("train").numpy(), self.part(split).numpy()
        scored = Ngrams(train, len(self.vocabulary)).score(codes[:-1], codes[1:])
        counted = [
            Score(name, value, unit, self.better[unit])
            for name, pair in scored.items()
            for unit, value in zip((BITS, ACCURACY), pair, strict=True)
        ]
        learnt = {NGRAM: float(self._ngram_bits(split).mean())}
        if self.parts["train"] != self.parts[split]:
            learnt |= {name: self._packed_bits(split, pack) for name, pack in packers().items()}
        return counted + [Score(n, v, BITS, "lower", learnt=True) for n, v in learnt.items()]

    def margin(self, predict: Callable[[Batch], Tensor]) -> Margin | None:
        """Compare with the n-gram, symbol by symbol of the test part."""
        batches = self.batches("test", MARGIN_ROWS)
        bits: list[Tensor] = []
        for index in range(len(batches)):
            batch = batches[index]
            logits = predict(batch).flatten(0, 1).float()
            nats = F.cross_entropy(logits, batch.targets.flatten(), reduction="none")
            bits.append(nats.view(batch.targets.shape).double() / math.log(2))
        ours = torch.cat(bits).T.flatten().numpy()  # in the order of the text
        theirs = self._ngram_bits("test")[: len(ours)]
        return Margin.of(
            NGRAM,
            ours,
            theirs,
            blocks=min(BLOCKS, len(ours) // LEAST_BLOCK),
            beyond=BEYOND,
            figure="bits per symbol",
        )

    def _packed_bits(self, split: Split, pack: Callable[[bytes], bytes]) -> float:
        """Bits per symbol that a compressor needs for a part, after the training part."""
        spec = TextSpec(self.vocabulary, self.symbol, self.window)
        before = spec.decode(self.part("train")[-MOST_PACKED:].tolist()).encode("utf-8", "replace")
        codes = self.part(split)[:MOST_PACKED]
        asked = spec.decode(codes.tolist()).encode("utf-8", "replace")
        # the bytes that the part adds to the compressed training text
        size = len(pack(before + asked)) - len(pack(before))
        return 8 * size / len(codes)

    def _ngram_bits(self, split: Split) -> np.ndarray:
        if split not in self._counted:
            train, codes = self.part("train").numpy(), self.part(split).numpy()
            self._counted[split] = witten_bell(train, codes, ORDER, len(self.vocabulary))
        return self._counted[split]

    @cached_property
    def _counted(self) -> dict[Split, np.ndarray]:
        """Bits of each symbol by the n-gram, cached by part."""
        return {}

    def facts(self) -> dict[str, object]:
        spans = {f"{split} symbols": len(self.part(split)) for split in self.parts}
        return {
            **self.origin,
            "symbol": self.symbol,
            "symbols": len(self.codes),
            "different symbols": len(self.vocabulary),
            "window": self.window,
            **spans,
            "notes": list(self.notes),
        }


def packers() -> dict[str, Callable[[bytes], bytes]]:
    """Return the compressors that there are: xz, and zstd where its library is installed."""
    found: dict[str, Callable[[bytes], bytes]] = {"xz": partial(lzma.compress, preset=9)}
    with contextlib.suppress(ModuleNotFoundError):
        import zstandard

        found["zstd"] = zstandard.ZstdCompressor(level=19).compress
    return found


class _Cuts(Batches):
    def __init__(self, inputs: Tensor, targets: Tensor, window: int) -> None:
        self.inputs, self.targets, self.window = inputs, targets, window

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.window)

    def __getitem__(self, index: int) -> Batch:
        cut = slice(index * self.window, (index + 1) * self.window)
        return Batch(self.inputs[cut], self.targets[cut], fresh=index == 0)


def bounds(symbols: int) -> dict[Split, tuple[int, int]]:
    """Return first and one past the last symbol of each part."""
    if symbols < SMALLEST_SPLIT:
        return {"train": (0, symbols), "val": (0, symbols), "test": (0, symbols)}
    train, val = int(symbols * 0.8), int(symbols * 0.9)
    return {"train": (0, train), "val": (train, val), "test": (val, symbols)}


def read_text(
    path: Path,
    symbol: Symbol = "char",
    window: int | None = None,
    encoding: str | None = None,
) -> Text:
    """Make a next-symbol task of a text file.

    Args:
        path: A text, packed or not.
        symbol: One character, or one word (separated by white space).
        window: Time steps between two cuts of the gradient; 64 if not given.
        encoding: Of the text; detected and noted if not given.

    Raises:
        InputError: No such file, no text, or too few symbols.
    """
    text, note = read_prose(path, limit=MAX_TEXT, given=encoding)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    symbols: Sequence[str] = text if symbol == "char" else text.split()
    notes = [note] if note else []
    if symbol == "word" and len(text) > LONGEST_WORD * max(1, len(symbols)):
        raise InputError(
            f"{path}: {'no' if len(symbols) < 2 else 'hardly any'} white space in {len(text)} "
            "characters, so it cannot be split into words: use --symbol char"
        )
    if len(symbols) < 8 or len(set(symbols)) < 2:
        raise InputError(
            f"{path}: {len(symbols)} {symbol} symbols, {len(set(symbols))} different; expected"
            " at least 8 and 2: give a longer text"
        )
    if len(symbols) < SMALLEST_SPLIT:
        notes.append(
            f"{len(symbols)} symbols are too few to set a part aside: trained and scored on the "
            "same text, so the score measures memorisation, not generalisation"
        )
    return make_text(symbols, bounds(len(symbols)), symbol, window, path.name, notes)


def make_text(
    symbols: Sequence[str],
    parts: Mapping[Split, tuple[int, int]],
    symbol: Symbol,
    window: int | None = None,
    name: str = "",
    notes: Sequence[str] = (),
) -> Text:
    """Make a next-symbol task from symbols; the vocabulary is that of the training part.

    Args:
        symbols: The whole text.
        parts: First and one past the last symbol of each part.
        symbol: What one symbol is.
        window: Time steps between two cuts of the gradient; 64 if not given.
        name: Of the text, for the record.
        notes: How the text was prepared so far.

    Raises:
        InputError: A window below 1.
    """
    window = 64 if window is None else window
    if window < 1:
        raise InputError(f"window {window}: must be at least 1")
    told = list(notes)
    vocabulary = _vocabulary(symbols[slice(*parts["train"])], told)
    code = {kept: number for number, kept in enumerate(vocabulary)}
    unknown = len(vocabulary)
    numbers = np.fromiter((code.get(s, unknown) for s in symbols), np.int64, len(symbols))
    if (count := int((numbers == unknown).sum())) > 0:
        vocabulary += (UNKNOWN,)
        told.append(f"{count} symbols are not among those kept: read as unknown")
    codes = torch.from_numpy(numbers)
    return Text(codes, vocabulary, window, symbol, tuple(told), {"file": name}, parts)


def _vocabulary(train: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    counts = Counter(train)
    kept = sorted(symbol for symbol, _ in counts.most_common(MAX_SYMBOLS))
    if len(counts) > MAX_SYMBOLS:
        notes.append(f"{len(counts)} different symbols: the {MAX_SYMBOLS} commonest kept")
    return tuple(kept)
