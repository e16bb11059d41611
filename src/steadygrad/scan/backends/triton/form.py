"""Everything that the text of a printed kernel depends on."""

from dataclasses import dataclass

import torch

from steadygrad.cells import Cell
from steadygrad.scan.call import ScanCall

PRECISIONS = {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}
"""`torch.get_float32_matmul_precision` -> Triton's word.

"high" leaves torch the choice of tf32 or several products of halves. A recurrence multiplies errors
at every step, so it is three products of tf32 here, as near as float32.
"""


@dataclass(frozen=True)
class Form:
    """A kind of call; calls of one kind run the same printed kernels.

    Attributes:
        cell: The recurrence.
        size: Units, ``H``.
        width: Features of h, ``P``.
        dtype: Of inputs, weights and states.
        projects: Whether h is made smaller by ``weight_hr``.
        bias: Whether recurrent products have a bias.
        packed: Whether steps have different numbers of rows.
        reverse: Whether a dense batch is run from the last step to the first.
        resets: Whether rows begin anew within the sequence.
        noise: For each name in `Cell.noise`, whether its values differ from row to row.
        keep: Whether the forward pass saves values for a backward pass.
        precision: Of products of float32 factors: ``ieee``, or by tensor cores.
        tap: Whether the backward pass reports the gradient at every step.
        clip: Place and kind of a clip in the backward pass, or None.
    """

    cell: Cell
    size: int
    width: int
    dtype: torch.dtype
    projects: bool
    bias: bool
    packed: bool
    reverse: bool
    resets: bool
    noise: tuple[bool, ...]
    keep: bool
    precision: str = "ieee"
    tap: bool = False
    clip: tuple[str, str] | None = None

    @property
    def compute(self) -> torch.dtype:
        """The dtype of arithmetic inside the kernels: float32 for half precision."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def is_half(self) -> bool:
        """Whether values in memory are narrower than those computed with."""
        return self.compute != self.dtype

    @property
    def rescales(self) -> bool:
        """Whether rows of the gradient are rescaled: a clip compares unscaled values."""
        return self.tap and self.clip is None

    @property
    def stride(self) -> int:
        """Distance between rows of scratch memory, which holds h as well as values per unit."""
        return max(self.size, self.width)


def form_of(call: ScanCall, keep: bool, backward: bool = False) -> Form:
    """The form of one pass of a call; what only the other pass depends on is left at one value."""
    clip = None if call.clip is None or not backward else (call.clip.place, call.clip.by)
    is_single = call.dtype == torch.float32
    precision = PRECISIONS[torch.get_float32_matmul_precision()] if is_single else "ieee"
    noise = (n for n in call.per_step().items() if n[0].startswith("n."))
    return Form(
        call.cell,
        call.size,
        call.width,
        call.dtype,
        call.weights.weight_hr is not None,
        call.weights.bias_hh is not None and not backward,
        not call.layout.is_dense,
        call.layout.reverse and call.layout.is_dense,
        call.resets is not None,
        tuple(value.dim() == 2 for _, value in noise),
        keep,
        precision,
        backward and call.on_tap is not None,
        clip,
    )
