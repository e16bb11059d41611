"""Printed lines by connectionist temporal classification, from 40 lines alone.

Each training step draws words that were cut from the training lines, joins them to short lines and
prints them a little differently. Needs ocr_lines in the folder STEADYGRAD_DATA.

python -m benchmarks.papers.ctc_lines [--help]
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import steadygrad as sg
from benchmarks.papers import harness
from benchmarks.papers.ctc_lines.pieces import Piece, joined, reprinted, words
from benchmarks.papers.harness import Settings
from steadygrad.tasks import OCRLines, Split
from steadygrad.tasks.ocr_lines import alphabet, read


class Reader(nn.Module):
    """Two convolutions that halve the columns, a bidirectional LSTM, and a label a column.

    Args:
        height: Pixels of a line.
        labels: Characters and the blank.
        channels: Of the second convolution; the first has half of them.
        hidden: Units of a direction.
        dropout: In front of the LSTM and of the labels.
    """

    def __init__(
        self, height: int, labels: int, channels: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.eye = nn.Sequential(
            nn.Conv2d(1, channels // 2, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d((2, 2)),
            nn.Conv2d(channels // 2, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d((1, 2)),
        )
        self.dropout = nn.Dropout(dropout)
        self.lstm = sg.LSTM(channels * (height // 4), hidden, bidirectional=True)
        self.head = nn.Linear(2 * hidden, labels)

    def forward(self, x: Tensor) -> Tensor:
        """Label scores ``(T // 2, B, labels)`` of images ``(T, B, height)``."""
        seen = self.eye(x.transpose(0, 1)[:, None])  # (B, channels, T / 2, height / 4)
        features = seen.permute(2, 0, 1, 3).flatten(2)
        return self.head(self.dropout(self.lstm(self.dropout(features))[0]))


class Press:
    """Draws new lines from the training lines alone."""

    def __init__(self, task: OCRLines, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.space = alphabet().index(" ") + 1
        self.lines = [(b.inputs[:, 0], b.targets[0, 1:]) for b in task.batches("train", 1)]
        self.words = [word for line in self.lines for word in words(line, self.space)]

    def batch(self, size: int, most: int, whole: float) -> tuple[Tensor, Tensor]:
        """Inputs and targets as the task has them: joins of up to ``most`` words, or lines.

        Args:
            size: Lines of a batch.
            most: Words of a line at most; all lines of a batch have as many.
            whole: The share of batches that hold whole lines, a quarter as many.
        """
        if self.random.random() < whole:
            chosen = self.random.choice(len(self.lines), size // 4)
            pieces = [self.lines[i] for i in chosen]
        else:
            count = int(self.random.integers(1, most + 1))
            chosen = self.random.choice(len(self.words), (max(4, size // count), count))
            pieces = [
                joined([self.words[i] for i in row], self.space, self.random) for row in chosen
            ]
        return collated([reprinted(piece, self.random) for piece in pieces])


def collated(pieces: list[Piece]) -> tuple[Tensor, Tensor]:
    """Pad images and codes, the number of columns in front of the codes."""
    images, codes = zip(*pieces, strict=True)
    columns = torch.tensor([[len(image)] for image in images])
    padded = nn.utils.rnn.pad_sequence(list(codes), batch_first=True)
    return nn.utils.rnn.pad_sequence(list(images)), torch.cat([columns, padded], 1)


@torch.no_grad()
def scored(model: Reader, task: OCRLines, split: Split) -> float:
    """Percentage of characters wrong."""
    model.eval()
    total = sum(task.tally(model(b.inputs), b.targets) for b in task.batches(split, 1))
    model.train()
    assert isinstance(total, Tensor)
    return next(iter(task.figures(total).values()))


@torch.no_grad()
def decoded(model: Reader, task: OCRLines, split: Split) -> list[dict[str, str]]:
    """Each line as it is and as it was read."""
    model.eval()

    def text(codes: list[int]) -> str:
        return "".join(alphabet()[code - 1] for code in codes)

    return [
        {
            "is": text(batch.targets[0, 1:].tolist()),
            "read": text(read(model(batch.inputs)[:, 0].argmax(-1))),
        }
        for batch in task.batches(split, 1)
    ]


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train one reader for all its updates; score the lines held back, once."""
    torch.manual_seed(seed)
    options = settings["training"]
    task = OCRLines(height=settings["height"])
    model = Reader(settings["height"], task.output_size, **settings["model"])
    press = Press(task, seed)
    optimizer = torch.optim.Adam(model.parameters(), options["learning_rate"])
    updates = options["updates"]
    for update in range(updates):
        share = update / updates
        rate = min(1, (update + 1) / options["warm_up"]) * (1 + math.cos(math.pi * share)) / 2
        optimizer.param_groups[0]["lr"] = options["learning_rate"] * rate
        most = 1 + int(share * options["most_words"])  # short lines first: they align sooner
        whole = options["whole_lines"] if share > options["whole_from"] else 0.0
        x, targets = press.batch(options["batch"], most, whole)
        loss = task.loss(model(x), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), options["clip"])
        optimizer.step()
        if (update + 1) % options["look_every"] == 0:
            wrong = scored(model, task, "val")
            harness.progress(
                f"{update + 1}: {loss.item():.3f} nats per character, validation {wrong:.1f} %",
                end="\n",
            )
    return {
        "train": scored(model, task, "train"),
        "validation": scored(model, task, "val"),
        "test": scored(model, task, "test"),
        "words": len(press.words),
        "lines": decoded(model, task, "test"),
    }


if __name__ == "__main__":
    harness.main(__file__, attempt)
