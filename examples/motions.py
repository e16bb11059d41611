"""ConvLSTM and CNN-LSTM recognise four movements from a smart watch (UEA BasicMotions).

Six sensors, ten a second, ten seconds; 40 recordings to train on and 40 to test.

STEADYGRAD_DATA=DIR python examples/motions.py [--epochs 60]
"""

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from steadygrad.nn import CNNLSTM, ConvLSTM


def read(part: str) -> tuple[Tensor, list[str]]:
    """Series ``(T, B, 6)`` and labels of a .ts file: dimensions parted by colons."""
    path = Path(os.environ["STEADYGRAD_DATA"], "ucr_uea", f"BasicMotions_{part}.ts")
    rows = [line.split(":") for line in path.read_text().splitlines() if line[:1] not in "#@"]
    series = [[[float(v) for v in dim.split(",")] for dim in row[:-1]] for row in rows]
    return torch.tensor(series).permute(2, 0, 1), [row[-1].strip() for row in rows]


class FromCNN(nn.Module):
    """Convolutions along time, a recurrence over every fourth step, its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = CNNLSTM(6, 32, channels=(16, 16), pool=2)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0].mean(0))


class FromConvLSTM(nn.Module):
    """Ten windows of ten samples: a step reads one window, and convolves along it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ConvLSTM(6, 16, (10,), kernel_size=3)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unflatten(0, (10, 10)).permute(0, 2, 3, 1)  # (10, B, 6, 10)
        return self.head(self.body(windows)[0].mean((0, -1)))


def train(model: nn.Module, epochs: int) -> float:
    """Return the accuracy on the test recordings."""
    (x, labels), (x_test, labels_test) = read("TRAIN"), read("TEST")
    names = sorted(set(labels))
    mean, std = x.mean((0, 1)), x.std((0, 1))
    x, x_test = (x - mean) / std, (x_test - mean) / std
    y, y_test = (torch.tensor([names.index(n) for n in which]) for which in (labels, labels_test))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        return float((model(x_test).argmax(1) == y_test).float().mean())


def main() -> None:
    """Train both over three seeds and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    for kind in (FromCNN, FromConvLSTM):
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            found.append(round(train(kind(), options.epochs), 3))
        print(f"{kind.__name__:<13} test accuracy, 3 seeds: {found} (chance 0.25)")


if __name__ == "__main__":
    main()
