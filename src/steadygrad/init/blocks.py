"""Row blocks: a stacked weight seen as one matrix per gate."""

from torch import Tensor


def row_blocks(stacked: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Cut ``stacked`` into ``blocks`` views of equal height, in order.

    Args:
        stacked: Weight ``(G*H, ·)`` or bias ``(G*H,)``.
        blocks: How many gates ``G`` are stacked in it.

    Returns:
        Views ``(H, ·)`` or ``(H,)``; writing into one writes into ``stacked``.

    Raises:
        ValueError: The rows cannot be divided evenly.
    """
    rows = stacked.shape[0] if stacked.dim() else 0
    if blocks < 1 or rows == 0 or rows % blocks:
        # Tensor.chunk would silently return fewer or uneven blocks.
        raise ValueError(
            f"cannot cut a tensor of shape {tuple(stacked.shape)} into {blocks} row blocks: "
            f"its first size must be a positive multiple of the number of gates"
        )
    return stacked.split(rows // blocks)


def matrix_blocks(weight: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Cut a stacked weight ``(G*H, N)`` into its ``G`` matrices ``(H, N)``.

    Raises:
        ValueError: ``weight`` is not a matrix, or its rows cannot be divided evenly.
    """
    if weight.dim() != 2:
        raise ValueError(
            f"expected a weight matrix (G*H, N), got a tensor of shape {tuple(weight.shape)}"
        )
    return row_blocks(weight, blocks)
