"""A two-dimensional recurrence over images whose columns are the time steps of a task."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.errors import InputError
from steadygrad.nn import MDLSTM
from steadygrad.spec import read_spec
from steadygrad.tasks import Task


@final
@dataclass(frozen=True)
class ImageCell:
    """Options of a two-dimensional LSTM, as text: ``md-lstm:cell=leaky``.

    Args:
        cell: Which of the cells of `steadygrad.nn.MDLSTM`.
        directions: 1, 2 or 4 corners to read from.
        rows: Rows of pixels per block.
        columns: Columns of pixels per block; the number of outputs is divided by it.
    """

    name: ClassVar[str] = "md-lstm"

    cell: Literal["lstm", "stable", "leaky", "leaky-lp"] = "lstm"
    directions: Literal[1, 2, 4] = 4
    rows: int = 4
    columns: int = 2

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"md-lstm: rows {self.rows}, columns {self.columns}: at least 1")


def is_image_cell(text: str) -> bool:
    """Whether ``text`` names a recurrence over images."""
    return text.partition(":")[0].strip().replace("_", "-") == ImageCell.name


@final
class ImageModel(nn.Module):
    """Blocks of pixels, a two-dimensional LSTM, the mean over rows, and a linear head.

    Args:
        task: A task whose inputs are the columns of an image.
        cell: ``md-lstm`` with its options, as text.
        hidden: Hidden features of each direction.

    Shapes:
        ``inputs (T, B, Y)``, a column a step; answers ``(ceil(T / columns), B, O)``.

    Raises:
        InputError: The task has no images, or an option is not one.
    """

    def __init__(self, task: Task, cell: str, hidden: int) -> None:
        super().__init__()
        if not task.is_image:
            raise InputError(f"--cell {cell}: reads images, and this task has none; try ocr-lines")
        try:
            options = read_spec(cell, {ImageCell.name: ImageCell}, "cell")
        except ValueError as error:
            raise InputError(f"--cell {cell}: {error}") from None
        self.block = (options.rows, options.columns)
        self.recurrent = MDLSTM(
            options.rows * options.columns, hidden, options.cell, options.directions
        )
        self.head = nn.Linear(self.recurrent.output_size, task.output_size)

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Return the answers; there is no state to carry over."""
        image = inputs.permute(1, 2, 0).unsqueeze(1)  # (B, 1, Y, X)
        rows, columns = self.block
        image = F.pad(image, (0, -image.shape[3] % columns, 0, -image.shape[2] % rows))
        size = (image.shape[2] // rows, image.shape[3] // columns)
        blocks = F.unfold(image, self.block, stride=self.block).unflatten(2, size)
        return self.head(self.recurrent(blocks).mean(2).permute(2, 0, 1)), state
