"""Synthetic XML, as Jozefowicz et al. 2015 describe it: nested tags of random letters."""

import random
import string
from functools import lru_cache

import torch
from torch import Tensor

SYMBOLS = "</>" + string.ascii_lowercase


def document(source: random.Random, iterations: int = 50) -> str:
    """One document: with probability 1/2, or after 50 iterations, close a tag; else open one."""
    text, tags = "", []
    for turn in range(10**9):
        if source.random() < 0.5 or turn >= iterations:
            if not tags:
                break
            text += f"</{tags.pop()}>"
        else:
            tags.append("".join(source.choices(string.ascii_lowercase, k=source.randint(2, 10))))
            text += f"<{tags[-1]}>"
    return text


@lru_cache(maxsize=4)
def stream(length: int, seed: int) -> Tensor:
    """Documents in a row, as numbers ``(length,)``."""
    source, text = random.Random(seed), []
    size = 0
    while size <= length:
        text.append(document(source))
        size += len(text[-1])
    number = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    return torch.tensor([number[c] for c in "".join(text)[:length]])
