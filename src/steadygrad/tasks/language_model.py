"""Language models: predict the next character or word of a benchmark text, or of any other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, final

from steadygrad.tasks.base import Batches, Score, Sizes, Split
from steadygrad.tasks.benchmark import Measured
from steadygrad.tasks.datasets import DataFile, read_file
from steadygrad.tasks.scoring import SymbolScores
from steadygrad.tasks.text import Symbol, Text, bounds, make_text, read_text

Corpus = Literal["shakespeare", "war-and-peace", "ptb"]
_GITHUB = "https://raw.githubusercontent.com/"
_PTB = (
    f"{_GITHUB}townie/PTB-dataset-from-Tomas-Mikolov-s-webpage/"
    "06529ac968955ffc29a4668d68b93dadcfe55f2e/data/"
)
_SINGLE: Mapping[str, DataFile] = {
    "shakespeare": DataFile(
        "tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        f"{_GITHUB}karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/"
        "data/tinyshakespeare/input.txt",
    ),
    "war-and-peace": DataFile(
        "warpeace/warpeace_input.txt",
        "fb66ba999dafe24017cdd59e04c56d385a9c8466993d374fd4c6f08b2142985e",
        "https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",
    ),
}
_PENN: Mapping[str, str] = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    "ptb.char.train.txt": "e313d91425e06c4f0a8fb6e881dcce0c291f2a0e9f4dda54833069b122f91da9",
    "ptb.char.valid.txt": "21661f63ec355085879458b6524644d4add5573541b4be14fb52ab2e2e995eb8",
    "ptb.char.test.txt": "1ef5607ac3c463b16e38bfe7900dd3bfc91de5a96e0f21e7eab5188b465b8ebe",
}
_PARTS: Mapping[Split, str] = {"train": "train", "val": "valid", "test": "test"}
END = "<eos>"  # the end of a line of the Penn Treebank, as in all papers


@final
@dataclass(frozen=True)
class LanguageModel(SymbolScores, Measured):
    r"""Predict each symbol of a text from all before it, carrying the state from window to window.

    ``"shakespeare"`` (1,115,394 characters, 65 different) and ``"war-and-peace"`` are cut 80, 10
    and 10 % in order; ``"ptb"``, the Penn Treebank as Mikolov prepared it, has its own three
    files, 10,000 words, or 50 characters, where the end of a line is a symbol. Perplexity per word
    is 2 to the power of the bits.

    Args:
        corpus: Which text.
        symbol: ``"char"``, or ``"word"``: separated by white space.
        window: Time steps ``T`` between two cuts of the gradient.
        file: Another text, UTF-8, instead of ``corpus``.

    Shapes:
        Codes ``(T, B)``; targets the same, one ahead.

    Baseline:
        The smoothed bigram of the training part: the best known from the present symbol alone.
        Solved by fewer bits than the smoothed 5-gram, which remembers three symbols more.

    References:
        Mikolov et al., *Subword Language Modeling with Neural Networks*, 2012 (the Penn Treebank
        by character). Karpathy, Johnson and Li, *Visualizing and Understanding Recurrent
        Networks*, 2015 (War and Peace). Witten and Bell, *The Zero-Frequency Problem*, 1991.
    """

    corpus: Corpus = "shakespeare"
    symbol: Symbol = "char"
    window: int = 64
    file: str = ""

    name: ClassVar[str] = "language-model"
    input_kind: ClassVar[Literal["values", "symbols"]] = "symbols"
    every_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.expect("corpus", self.corpus in (*_SINGLE, "ptb"), "shakespeare, war-and-peace or ptb")
        self.expect("symbol", self.symbol in ("char", "word"), "char or word")
        self.expect("window", self.window >= 1, "at least 1 step")

    @property
    def text(self) -> Text:
        """The text, read once and cached."""
        return _read(self.file or self.corpus, bool(self.file), self.symbol, self.window)

    @property
    def sizes(self) -> Sizes:
        return self.text.sizes

    @property
    def no_memory(self) -> Mapping[str, float]:
        return self.scored("bigram")

    def facts(self) -> dict[str, object]:
        return super().facts() | self.text.facts()

    def batches(self, split: Split, size: int, shuffle: tuple[int, int] | None = None) -> Batches:
        return self.text.batches(split, size, shuffle)

    def naive(self, split: Split) -> list[Score]:
        return list(_naive(self, split))


@lru_cache(maxsize=8)
def _naive(task: LanguageModel, split: Split) -> tuple[Score, ...]:
    return tuple(task.text.naive(split))


@lru_cache(maxsize=4)
def _read(origin: str, is_file: bool, symbol: Symbol, window: int) -> Text:
    if is_file:
        return read_text(Path(origin), symbol, window)
    if origin == "ptb":
        return _penn(symbol, window)
    file = _SINGLE[origin]
    text = read_file(file).decode("utf-8-sig").replace("\r\n", "\n")
    symbols: Sequence[str] = text if symbol == "char" else text.split()
    return make_text(symbols, bounds(len(symbols)), symbol, window, origin)


def _penn(symbol: Symbol, window: int) -> Text:
    kind = "ptb.char" if symbol == "char" else "ptb"
    symbols: list[str] = []
    parts: dict[Split, tuple[int, int]] = {}
    for split, part in _PARTS.items():
        file = f"{kind}.{part}.txt"
        lines = read_file(DataFile(f"ptb/{file}", _PENN[file], f"{_PTB}{file}")).decode()
        first = len(symbols)
        for line in lines.splitlines():
            symbols += [*line.split(), END]
        parts[split] = (first, len(symbols))
    return make_text(symbols, parts, symbol, window, "Penn Treebank")
