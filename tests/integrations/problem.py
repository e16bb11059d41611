"""One task for every framework: the sign of the first of 40 inputs, with and without a memory."""

import torch
from torch import Tensor, nn

STEPS, LAG = 40, 39
CLIP = 1e-3


class Reader(nn.Module):
    """A plain RNN reads noise; without help nothing of the first step is left at the last."""

    def __init__(self, healthy: bool = False) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 16, batch_first=True)
        self.head = nn.Linear(16, 1)
        if healthy:
            with torch.no_grad():
                weights = dict(self.rnn.named_parameters())
                weights["weight_hh_l0"].copy_(torch.eye(16))
                weights["bias_hh_l0"].zero_()
                weights["bias_ih_l0"].zero_()
                weights["weight_ih_l0"].mul_(0.1)  # tanh stays in its linear part

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def data(rows: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, STEPS, 1, generator=generator)
    return x, (x[:, 0] > 0).float()


def expected(healthy: bool) -> str:
    return "healthy" if healthy else "vanishing"
