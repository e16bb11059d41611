"""New lines from few: cut lines into words, join words, and print them a little differently."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

INK = 0.25  # a column is part of a letter from this darkness on
Piece = tuple[Tensor, Tensor]
"""An image ``(columns, height)``, ink from 0 to 1, and the codes of its characters."""


def words(line: Piece, space: int) -> list[Piece]:
    """Cut a line at its widest gaps, as many as its text has spaces.

    Nothing if the gaps between words are not wider than those between letters, so that it is not
    known where a word ends.
    """
    image, codes = line
    inked = (image.amax(1) > INK).nonzero().ravel()
    if len(inked) == 0:
        return []
    gaps = inked.diff()
    count = int((codes == space).sum())
    widest = gaps.argsort(descending=True)[: count + 1]
    if len(gaps) < count or (len(widest) > count > 0 and gaps[widest[count - 1 :]].diff() == 0):
        return []
    cuts = widest[:count].sort().values
    starts = [int(inked[0]), *inked[cuts + 1].tolist()]
    stops = [*(inked[cuts] + 1).tolist(), int(inked[-1]) + 1]
    ends = [-1, *(codes == space).nonzero().ravel().tolist(), len(codes)]
    texts = [codes[a + 1 : b] for a, b in pairwise(ends)]
    found = zip(starts, stops, texts, strict=True)
    return [(image[a:b], text) for a, b, text in found if len(text)]


def joined(pieces: list[Piece], space: int, random: np.random.Generator) -> Piece:
    """Set words side by side, with gaps of a quarter to half of the height."""
    height = pieces[0][0].shape[1]
    images, codes = [], []
    for number, (image, text) in enumerate(pieces):
        if number:
            images.append(torch.zeros(int(random.integers(height // 4, height // 2 + 1)), height))
            codes.append(torch.tensor([space]))
        images.append(image)
        codes.append(text)
    return torch.cat(images), torch.cat(codes)


def reprinted(piece: Piece, random: np.random.Generator) -> Piece:
    """Stretch, slant, shift and bend an image, make its strokes bolder or finer, and add noise."""
    image, codes = piece
    columns, height = image.shape
    width = max(8, round(columns * random.uniform(0.85, 1.2)))
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    knots = max(3, width // 40)
    bend = np.interp(
        np.linspace(0, 1, width), np.linspace(0, 1, knots), random.normal(0, 0.04, knots)
    )
    down = y * random.uniform(0.9, 1.15) + random.uniform(-0.08, 0.08) + torch.from_numpy(bend)
    along = x + random.uniform(-0.2, 0.2) * y * height / columns
    grid = torch.stack([along, down.float()], -1)[None]
    out = F.grid_sample(image.T[None, None], grid, padding_mode="zeros", align_corners=True)
    weight = random.uniform(0, 0.6)
    match random.integers(4):
        case 0:  # bolder
            out = torch.lerp(out, F.max_pool2d(out, 3, 1, 1), weight)
        case 1:  # finer
            out = torch.lerp(out, -F.max_pool2d(-out, 3, 1, 1), weight)
        case 2:  # blurred
            out = torch.lerp(out, F.avg_pool2d(out, 3, 1, 1), weight)
        case _:
            pass
    noise = random.normal(0, random.uniform(0, 0.08), (height, width)).astype(np.float32)
    return (out[0, 0] + torch.from_numpy(noise)).clamp(0, 1).T, codes
