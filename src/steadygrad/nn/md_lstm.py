"""Two-dimensional LSTM: an image read from its corners, diagonal by diagonal."""

import math
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn.md_cells import MD_CELLS
from steadygrad.nn.step_gradient import Looped

# Axes that each direction reads backwards: from top left, top right, bottom left, bottom right.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


@final
class MDLSTM(Looped):
    r"""Multidimensional LSTM over images, in one, two or four directions.

    Every pixel sees the states above and to its left (as its direction reads), ``lstm``:

    .. math::
        i, f^y, f^x, g, o &= W x_{y,x} + R^y h_{y-1,x} + R^x h_{y,x-1} + b \\
        c_{y,x} &= \sigma(i) \odot \tanh g + \sigma(f^y) \odot c_{y-1,x}
            + \sigma(f^x) \odot c_{y,x-1} \\
        h_{y,x} &= \sigma(o) \odot \tanh c_{y,x}

    Two forget gates may sum to more than one, and the number of paths grows: with both gates open
    :math:`\partial c_{y,x} / \partial c_{0,0} = \binom{y+x}{x}`. Leifert's cells mix the two
    memories by a gate, :math:`c' = \lambda c_{y-1,x} + (1 - \lambda) c_{y,x-1}`, so that this is at
    most one however many paths there are:

    - ``stable``: :math:`c = \sigma(i) \odot \tanh g + \sigma(f) \odot c'`,
      :math:`h = \sigma(o) \odot \tanh c`;
    - ``leaky``: :math:`c = (1 - \sigma(f)) \odot \tanh g + \sigma(f) \odot c'`,
      :math:`h = \sigma(o) \odot c`, and then also :math:`|c| \le 1`;
    - ``leaky-lp``: the same c, :math:`h = \tanh(\sigma(o_1) \odot c + \sigma(o_2) \odot c')`.

    The pixels of one anti-diagonal do not need each other: a diagonal of all directions is one
    batched product, Y + X - 1 of them in all. Not compiled by the recurrence compiler, which walks
    one axis of time; the gradient is seen diagonal by diagonal through `on_step_gradient`.

    Args:
        input_size: Channels of the image, ``I``.
        hidden_size: Units of each direction, ``H``.
        cell: ``"lstm"``, ``"stable"``, ``"leaky"`` or ``"leaky-lp"``.
        directions: 1 (from the top left), 2 (and from the top right) or 4 (from every corner).
        combine: ``"concat"``, ``"sum"`` or ``"mean"`` of the directions.
        forget_bias: Start of the forget gates' bias; 0 if not given. 1 opens them.
        bias: Whether there is one.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        Input ``(B, I, Y, X)`` as convolutions have it; output ``(B, D*H, Y, X)``, or
        ``(B, H, Y, X)`` summed. ``weight_ih (D, G*H, I)``, ``weight_hh (D, G*H, 2H)`` (first the
        columns for the state above, then for the left one), ``bias (D, G*H)``.

    Attributes:
        on_step_gradient: A `StepGradient`, or None; states ``h`` and ``c``, the step is y + x,
            gradients ``(D, pixels of the diagonal, B, H)``.

    Raises:
        ValueError: Unknown options, or an input of another shape.

    References:
        Graves, Fernández and Schmidhuber, *Multi-Dimensional Recurrent Neural Networks*, 2007; the
        peepholes of the original are left out.
        Leifert et al., *Cells in Multidimensional Recurrent Neural Networks*, JMLR 17(97), 2016.
        The one-dimensional stable and leaky cells are theirs; the mixture of the two memories is
        the convex one that their stability needs, written here from that requirement.

    Example:
        >>> MDLSTM(1, 4, cell="leaky")(torch.randn(2, 1, 8, 8)).shape
        torch.Size([2, 16, 8, 8])
    """

    states: ClassVar[tuple[str, ...]] = ("h", "c")
    batch_axis_of_step: ClassVar[int] = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        cell: str = "lstm",
        directions: int = 4,
        combine: str = "concat",
        forget_bias: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(input_size, hidden_size, cell, directions, combine)
        self.input_size, self.hidden_size, self.cell = input_size, hidden_size, cell
        self.directions, self.combine, self.forget_bias = directions, combine, forget_bias
        self.gates = MD_CELLS[cell].gates
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        rows = len(self.gates) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(directions, rows, input_size, **made))
        self.weight_hh = nn.Parameter(torch.empty(directions, rows, 2 * hidden_size, **made))
        self.bias = nn.Parameter(torch.empty(directions, rows, **made)) if bias else None
        self.reset_parameters()

    def entered(self, input: Tensor, grad: Tensor) -> Tensor:
        diagonals, parts = self._by_direction(grad)
        reached = (parts != 0).any(2).movedim(0, -1)  # (D, Y, X, B)
        return torch.stack(
            [reached[diagonals == t].any(0) for t in range(int(diagonals.max()) + 1)]
        )

    def only(self, input: Tensor, grad: Tensor, step: int) -> Tensor:
        diagonals, parts = self._by_direction(grad)
        return (parts * (diagonals == step)[None, :, None]).view_as(grad)

    @property
    def batch_axis_of_output(self) -> int:
        return 0

    def norms_at_input(self, grad: Tensor) -> None:
        return None  # a step is a diagonal of it, from another corner in each direction

    def first_rows(self, value: Tensor, count: int) -> Tensor:
        return value[:count]

    def _by_direction(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """The diagonal ``(D, Y, X)`` of each pixel, and a gradient as ``(B, D, H, Y, X)``.

        Where directions are added up, a gradient reaches all of them at once: the pixels are
        counted as the first direction reads them.
        """
        ways = self.directions if self.combine == "concat" else 1
        height, width = grad.shape[2:]
        plain = torch.arange(height)[:, None] + torch.arange(width)
        turned = [plain.flip(f) if f else plain for f in _FLIPS[:ways]]
        return torch.stack(turned).to(grad.device), grad.unflatten(1, (ways, -1))

    @property
    def output_size(self) -> int:
        """Channels of the output."""
        return self.hidden_size * (self.directions if self.combine == "concat" else 1)

    def reset_parameters(self) -> None:
        """Draw all weights from U(-1/√(2H), 1/√(2H)); then add the forget bias."""
        bound = 1 / math.sqrt(2 * self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        if self.bias is not None:
            with torch.no_grad():
                blocks = self.bias.view(self.directions, len(self.gates), -1)
                for gate in MD_CELLS[self.cell].forget:
                    blocks[:, self.gates.index(gate)] += self.forget_bias

    def forward(self, x: Tensor) -> Tensor:
        """Read the images; see the class for shapes."""
        hidden, _ = self.sweep(x)
        if self.combine == "concat":
            return hidden.permute(1, 0, 2, 3, 4).flatten(1, 2)
        return hidden.sum(0) if self.combine == "sum" else hidden.mean(0)

    def corners(self, output: Tensor) -> Tensor:
        """What each direction knows after all pixels: ``(B, D*H)``, taken at its last corner.

        Args:
            output: What `forward` returned, with ``combine="concat"``.
        """
        if self.combine != "concat":
            raise ValueError("MDLSTM.corners: directions are told apart with combine='concat' only")
        parts = output.chunk(self.directions, 1)
        ends = [(0 if -2 in f else -1, 0 if -1 in f else -1) for f in _FLIPS]
        return torch.cat([p[:, :, y, x] for p, (y, x) in zip(parts, ends, strict=False)], 1)

    def sweep(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and memories of every direction, each ``(D, B, H, Y, X)``."""
        if x.dim() != 4 or x.shape[1] != self.input_size or 0 in x.shape:
            raise ValueError(
                f"MDLSTM: expected images (B, {self.input_size}, Y, X), got {tuple(x.shape)}"
            )
        turned = torch.stack([x.flip(f) if f else x for f in _FLIPS[: self.directions]])
        grid = turned.permute(0, 3, 4, 1, 2).flatten(1, 3)  # (D, Y*X*B, I)
        pre = grid @ self.weight_ih.transpose(1, 2)
        pre = pre if self.bias is None else pre + self.bias[:, None]
        pre = pre.unflatten(1, (*x.shape[2:], x.shape[0]))  # (D, Y, X, B, G*H)
        hidden, memory = self._diagonals(pre)
        return self._turned_back(hidden), self._turned_back(memory)

    def _diagonals(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        """All states, as lists of diagonals put together again: each ``(D, Y, X, B, H)``."""
        height, width = pre.shape[1:3]
        step = MD_CELLS[self.cell].step
        weight = self.weight_hh.transpose(1, 2)
        # Row y + 1 holds the newest state of image row y; row 0 is the border above.
        zero = pre.new_zeros(self.directions, height + 1, pre.shape[3], self.hidden_size)
        h, c = zero, zero
        hs: list[Tensor] = []
        cs: list[Tensor] = []
        for d in range(height + width - 1):
            low, high = max(0, d - width + 1), min(height - 1, d) + 1
            rows = torch.arange(low, high, device=pre.device)
            up, left = slice(low, high), slice(low + 1, high + 1)
            both = torch.cat([h[:, up], h[:, left]], -1).flatten(1, 2)
            gates = (both @ weight).unflatten(1, (high - low, -1)) + pre[:, rows, d - rows]
            new_h, new_c = step(gates.chunk(len(self.gates), -1), c[:, up], c[:, left])
            self.offer("h", d, new_h)
            self.offer("c", d, new_c)
            hs.append(new_h)
            cs.append(new_c)
            pad = (0, 0, 0, 0, low + 1, height - high)
            # A state is read on the next diagonal alone, so rows outside this one hold nothing.
            h, c = F.pad(new_h, pad), F.pad(new_c, pad)
        return self._grid(hs, height, width), self._grid(cs, height, width)

    def _grid(self, diagonals: list[Tensor], height: int, width: int) -> Tensor:
        """Diagonals in order, put back into rows: ``(D, Y, X, B, H)``."""
        flat = torch.cat(diagonals, 1)
        pixels = [
            (y, d - y)
            for d in range(height + width - 1)
            for y in range(max(0, d - width + 1), min(height - 1, d) + 1)
        ]
        order = torch.empty(height * width, dtype=torch.long)
        for at, (y, x) in enumerate(pixels):
            order[y * width + x] = at
        return flat[:, order.to(flat.device)].unflatten(1, (height, width))

    def _turned_back(self, states: Tensor) -> Tensor:
        images = states.permute(0, 3, 4, 1, 2)  # (D, B, H, Y, X)
        return torch.stack([s.flip(f) if f else s for s, f in zip(images, _FLIPS, strict=False)])

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, cell={self.cell!r}, "
            f"directions={self.directions}, combine={self.combine!r}"
        )


def _check(inputs: int, hidden: int, cell: str, directions: int, combine: str) -> None:
    if min(inputs, hidden) < 1:
        raise ValueError(
            f"MDLSTM: input_size and hidden_size must be at least 1, got {inputs}, {hidden}"
        )
    if cell not in MD_CELLS:
        raise ValueError(f"MDLSTM: cell must be one of {', '.join(MD_CELLS)}, got {cell!r}")
    if directions not in (1, 2, 4):
        raise ValueError(f"MDLSTM: directions must be 1, 2 or 4, got {directions}")
    if combine not in ("concat", "sum", "mean"):
        raise ValueError(f"MDLSTM: combine must be concat, sum or mean, got {combine!r}")
