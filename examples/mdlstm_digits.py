"""A two-dimensional LSTM tells digits apart from their 8 x 8 pixels.

python examples/mdlstm_digits.py [--epochs 12] [--cell leaky-lp]
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from steadygrad.nn import MDLSTM


class Reader(nn.Module):
    """What each of the four directions knows at its last corner, read by a linear layer."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.md = MDLSTM(1, 16, cell=cell, forget_bias=1.0)
        self.head = nn.Linear(self.md.output_size, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.md.corners(self.md(x)))


def data() -> tuple[Tensor, Tensor]:
    """Images ``(1797, 1, 8, 8)`` in [-1, 1] and labels."""
    images, labels = load_digits(return_X_y=True)
    x = torch.as_tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    return x, torch.as_tensor(labels)


def train(cell: str, epochs: int, seed: int = 0) -> float:
    """Return the accuracy on the last 360 digits, which other people wrote."""
    torch.manual_seed(seed)
    x, y = data()
    model = Reader(cell)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(1437).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    with torch.no_grad():
        return float((model(x[1437:]).argmax(1) == y[1437:]).float().mean())


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--cell", nargs="*", default=["lstm", "stable", "leaky", "leaky-lp"])
    options = parser.parse_args()
    for cell in options.cell:
        print(f"{cell:<9} test accuracy {train(cell, options.epochs):.3f} (chance 0.10)")


if __name__ == "__main__":
    main()
