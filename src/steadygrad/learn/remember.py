"""Lesson ``remember``: how far back the gradient of a character model reaches."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.learn.lesson import Lesson, Result
from steadygrad.learn.parts import Heading, Part, Table, Text
from steadygrad.learn.scene import Choice, Curves, Entry, Letters, Readings, Scene, Sentence, Slider
from steadygrad.nn import LSTM, RNN
from steadygrad.report.axis import Axis

SOURCE = "Lewis Carroll, Alice's Adventures in Wonderland, 1865, chapter 1 (public domain)"
TEXT = " ".join(
    """
    alice was beginning to get very tired of sitting by her sister on the bank, and of having
    nothing to do: once or twice she had peeped into the book her sister was reading, but it had no
    pictures or conversations in it, and what is the use of a book, thought alice, without pictures
    or conversations? so she was considering in her own mind (as well as she could, for the hot day
    made her feel very sleepy and stupid), whether the pleasure of making a daisy-chain would be
    worth the trouble of getting up and picking the daisies, when suddenly a white rabbit with pink
    eyes ran close by her. there was nothing so very remarkable in that; nor did alice think it so
    very much out of the way to hear the rabbit say to itself, oh dear! oh dear! i shall be late!
    (when she thought it over afterwards, it occurred to her that she ought to have wondered at
    this, but at the time it all seemed quite natural); but when the rabbit actually took a watch
    out of its waistcoat-pocket, and looked at it, and then hurried on, alice started to her feet,
    for it flashed across her mind that she had never before seen a rabbit with either a
    waistcoat-pocket, or a watch to take out of it, and burning with curiosity, she ran across the
    field after it, and fortunately was just in time to see it pop down a large rabbit-hole under
    the hedge.
    """.split()
)
LETTERS = "".join(sorted(set(TEXT)))
WINDOW, BATCH, RATE = 64, 16, 0.01
LONGEST = 100  # most letters of a sentence
DECADES = 4  # powers of ten that the height of a bar spans
CELLS = ("lstm", "rnn")
NAMES = {"lstm": "LSTM", "rnn": "plain tanh"}
LAGS = (1, 5, 10, 20, 40)
PLACES = 32  # places of the text, over which the gradient by lag is the median


class CharacterModel(nn.Module):
    """One recurrent layer over one-hot letters, and a linear read-out."""

    def __init__(self, cell: str, hidden: int) -> None:
        super().__init__()
        self.layer = (LSTM if cell == "lstm" else RNN)(len(LETTERS), hidden)
        self.out = nn.Linear(hidden, len(LETTERS))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(T, B, V)`` of the next letter from one-hot letters ``(T, B, V)``."""
        return self.out(self.layer(x)[0])


@dataclass(frozen=True)
class Reach:
    """How one trained model depends on the letters before one letter.

    Attributes:
        cell: ``"lstm"`` or ``"rnn"``.
        bits: Bits per letter on the text, after the training.
        chance: Probability of the letter.
        gradient: ``|dL/dx_s|`` of every letter read, L = -log of that probability.
        letters_back: How many letters back a thousandth of the strongest gradient still arrives.
    """

    cell: str
    bits: float
    chance: float
    gradient: tuple[float, ...]
    letters_back: int


@dataclass(frozen=True)
class ByLag:
    """How much of the gradient arrives, over the whole text.

    Attributes:
        cell: ``"lstm"`` or ``"rnn"``.
        trained: Whether after the training or before.
        log10_share: At each of `LAGS` letters back the median over places of the text of
            log10 |dL/dx|, relative to the strongest letter.
    """

    cell: str
    trained: bool
    log10_share: tuple[float, ...]


@dataclass(frozen=True)
class RememberResult(Result):
    """Numbers of the lesson ``remember``.

    Attributes:
        sentence: The sentence, in letters that the models know.
        at: The letter that is predicted, counted from 0.
        updates: Training steps.
        seconds: Training time of both models.
        reach: Both models.
        by_lag: Both, before and after the training.
        models: Their weights, for the page; not part of the record.
    """

    sentence: str
    at: int
    updates: int
    seconds: float
    reach: tuple[Reach, ...]
    by_lag: tuple[ByLag, ...]
    models: dict[str, dict[str, Any]] = field(repr=False)

    def to_record(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_record().items() if name != "models"}

    def parts(self) -> Sequence[Part]:
        lstm, rnn = self.reach
        return (
            Text(
                "A network that predicts the next letter can learn from a letter far back only if "
                "the gradient of the prediction still reaches it. Two networks of the same size, "
                f"an LSTM and a plain tanh one, were trained for {self.updates} steps "
                f"({self.seconds:.0f} seconds) on {len(TEXT):,} letters of a book, as this page "
                f"was made: {lstm.bits:.2f} and {rnn.bits:.2f} bits a letter on that text."
            ),
            Heading("Type a sentence, point at a letter"),
            _scene(self),
            Table(
                f"The letter “{self.sentence[self.at]}”, number {self.at + 1} of the sentence",
                ("model", "bits a letter", "chance of the letter", "letters back to a thousandth"),
                [(NAMES[r.cell], r.bits, r.chance, r.letters_back) for r in self.reach],
                "Gradient by autograd in float64, norm over the one-hot letter.",
            ),
            Heading("Before and after the training"),
            Text(
                "At the start both networks lose the gradient at a steady rate. The training "
                "moves the weights to where the gradient lives longer, if it gets there: what is "
                "true of a network at its start need not be true of it later, and has to be "
                "measured in the training. A gradient that arrives is not yet a memory that is "
                "used; but where none arrives, nothing can be learned."
            ),
            Table(
                "log10 of the gradient by letters back, relative to the strongest",
                ("network", *(f"{lag} back" for lag in LAGS)),
                [
                    (
                        f"{NAMES[b.cell]}, {'trained' if b.trained else 'at its start'}",
                        *(f"{round(v, 1) + 0.0:.1f}" for v in b.log10_share),
                    )
                    for b in self.by_lag
                ],
                f"Median over {PLACES} places of the text.",
            ),
            Text(f"Text: {SOURCE}. Letters it does not know are read as spaces."),
        )


@final
@dataclass(frozen=True)
class RememberLesson(Lesson):
    """From which past letters the gradient still arrives in a small character model.

    Args:
        sentence: What the models read, 2 to 100 letters.
        at: The predicted letter, counted from 1; the last if 0.
        hidden: Units of each model, 8 to 96.
        updates: Training steps of each, 0 to 5000.
        seed: Of weights and batches.
    """

    name: ClassVar[str] = "remember"
    question: ClassVar[str] = "From which past letters does the gradient still arrive?"
    place: ClassVar[int] = 50

    sentence: str = "the rabbit took a watch out of its waistcoat-pocket"
    at: int = 0
    hidden: int = 40
    updates: int = 250
    seed: int = 0

    def run(self) -> RememberResult:
        sentence = "".join(c if c in LETTERS else " " for c in self.sentence.lower())
        place = (self.at or len(sentence)) - 1
        if not 2 <= len(sentence) <= LONGEST:
            raise InputError(
                f"learn remember: sentence must hold 2 to {LONGEST} letters, got {len(sentence)}"
            )
        if not 1 <= place < len(sentence):
            raise InputError(
                f"learn remember: at must be 2 to {len(sentence)}, the letters of the sentence "
                f"that have a past; got {self.at}"
            )
        for name, low, high in (("hidden", 8, 96), ("updates", 0, 5000)):
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"learn remember: {name} must be {low} to {high}, got {getattr(self, name)}"
                )
        begun = time.perf_counter()
        models = {cell: train(cell, self.hidden, self.updates, self.seed) for cell in CELLS}
        seconds = time.perf_counter() - begun
        found = tuple(reach(cell, model, sentence, place) for cell, model in models.items())
        starts = {cell: train(cell, self.hidden, 0, self.seed) for cell in CELLS}
        lags = tuple(
            ByLag(cell, trained, by_lag(group[cell]))
            for cell in CELLS
            for trained, group in ((False, starts), (True, models))
        )
        weights = {cell: packed(model) for cell, model in models.items()}
        return RememberResult(sentence, place, self.updates, seconds, found, lags, weights)


def train(cell: str, hidden: int, updates: int, seed: int) -> CharacterModel:
    """Train a model on windows of the text drawn at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CharacterModel(cell, hidden)
        if cell == "lstm":  # the usual initialisation with an open forget gate
            with torch.no_grad():
                layer: Any = model.layer
                layer.bias_ih_l0[hidden : 2 * hidden] += 1.0
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        codes = torch.tensor([LETTERS.index(c) for c in TEXT])
        for _ in range(updates):
            starts = torch.randint(len(codes) - WINDOW - 1, (BATCH,))
            rows = codes[starts + torch.arange(WINDOW + 1)[:, None]]
            loss = _loss(model, rows)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model


def reach(cell: str, model: CharacterModel, sentence: str, place: int) -> Reach:
    """Measure the gradient of one letter's prediction at every letter before it."""
    with torch.no_grad():
        codes = torch.tensor([LETTERS.index(c) for c in TEXT])[:, None]
        bits = float(_loss(model, codes)) / float(np.log(2))
    model = model.double()
    read = torch.tensor([LETTERS.index(c) for c in sentence])
    x = nn.functional.one_hot(read[:place], len(LETTERS)).double().unsqueeze(1).requires_grad_()
    log_chance = model(x)[-1, 0].log_softmax(0)[read[place]]
    (grads,) = torch.autograd.grad(-log_chance, x)
    norms = grads[:, 0].norm(dim=1)
    first = int((norms >= 1e-3 * norms.max()).nonzero()[0])
    model.float()
    return Reach(cell, bits, float(log_chance.detach().exp()), tuple(norms.tolist()), place - first)


def by_lag(model: CharacterModel) -> tuple[float, ...]:
    """log10 share of the gradient at each of `LAGS`, median over places of the text."""
    longest = max(LAGS)
    codes = torch.tensor([LETTERS.index(c) for c in TEXT])
    ends = torch.linspace(longest, len(codes) - 1, PLACES).long()
    x = nn.functional.one_hot(codes[ends + torch.arange(-longest, 0)[:, None]], len(LETTERS))
    x = x.double().requires_grad_()
    loss = nn.functional.cross_entropy(model.double()(x)[-1], codes[ends], reduction="sum")
    (grads,) = torch.autograd.grad(loss, x)
    model.float()
    norms = grads.norm(dim=2)  # separately for each place, because rows of a batch do not interact
    share = (norms / norms.amax(0)).log10().median(1).values
    return tuple(float(share[longest - lag]) for lag in LAGS)


def packed(model: CharacterModel) -> dict[str, Any]:
    """The weights as base64 of float32, as the page's script reads them."""
    layer: Any = model.layer
    tensors = {
        "weight_ih": layer.weight_ih_l0,
        "weight_hh": layer.weight_hh_l0,
        "bias": layer.bias_ih_l0 + layer.bias_hh_l0,
        "weight_out": model.out.weight,
        "bias_out": model.out.bias,
    }
    hidden = layer.hidden_size
    sizes = {"hidden": hidden, "gates": len(layer.weight_ih_l0) // hidden}
    return sizes | {name: _base64(value) for name, value in tensors.items()}


def _base64(value: Tensor) -> str:
    return base64.b64encode(value.detach().float().numpy().astype("<f4").tobytes()).decode()


def _loss(model: CharacterModel, rows: Tensor) -> Tensor:
    """Mean of -log p of every letter of ``rows (T, B)`` but the first."""
    x = nn.functional.one_hot(rows[:-1], len(LETTERS)).float()
    return nn.functional.cross_entropy(model(x).flatten(0, 1), rows[1:].flatten())


def _scene(result: RememberResult) -> Scene:
    return Scene(
        "remember",
        "Where does the gradient of a letter come from?",
        "Point at a letter, or move the slider: the bars show how strongly its prediction "
        f"depends on each letter before it, on a scale of {DECADES} powers of ten.",
        (
            Entry("sentence", "sentence", result.sentence, LONGEST),
            Slider("at", "letter", 1, len(result.sentence) - 1, result.at, 1),
            Choice("cell", "network", list(NAMES.items()), "lstm"),
            Slider("decades", "powers of ten", 1, 12, DECADES, 1),
        ),
        (
            Letters("row", "The sentence, a bar above each letter", "at"),
            Sentence("says"),
            Readings(
                (
                    ("chance", "chance of this letter"),
                    ("best", "most likely letter"),
                    ("far", "letters back to a thousandth"),
                )
            ),
            Curves(
                "lags",
                "Gradient by letters back, relative to the strongest",
                (("LSTM", "main"), ("plain tanh", "before dashed")),
                Axis(0, LONGEST),
                Axis(-10, 0.5, True, True),
                "letters back",
                "gradient",
            ),
        ),
        {"letters": LETTERS, "models": result.models},
    )
