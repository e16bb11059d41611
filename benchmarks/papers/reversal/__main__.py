"""Source reversal, Sutskever et al. 2014: what reading the source backwards gains a translator.

The corpus (WMT'14, 348 million words) is stood in for by a made-up language: every word has one
translation, and a word of the first half of the dictionary changes places with the word after it,
as adjective and noun do.

python -m benchmarks.papers.reversal [--help]
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.papers import harness
from benchmarks.papers.harness import Settings
from steadygrad.nn import EncoderDecoder


class Language:
    """Pairs of sentences; the dictionary is the same for all seeds."""

    def __init__(self, words: int, length: int) -> None:
        self.words, self.length = words, length
        self.dictionary = torch.randperm(words, generator=torch.Generator().manual_seed(0))

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Source and target ``(T, B)``."""
        source = torch.randint(self.words, (self.length, batch))
        order = torch.arange(self.length)[:, None].repeat(1, batch)
        swap = source[:-1] < self.words // 2
        for t in range(self.length - 1):  # a word that was moved forward stays there
            swap[t] &= ~swap[t - 1] if t else True
            first, second = order[t].clone(), order[t + 1].clone()
            order[t] = torch.where(swap[t], second, first)
            order[t + 1] = torch.where(swap[t], first, second)
        return source, self.dictionary[source.gather(0, order)]


def attempt(settings: Settings, seed: int) -> dict[str, Any]:
    """Train one translator; perplexity of true translations, share of words written right."""
    torch.manual_seed(seed)
    options, words = settings["training"], settings["language"]["words"]
    language = Language(**settings["language"])
    model = EncoderDecoder(
        words, words + 1, **settings["model"], reverse_source=settings["source"] == "reversed"
    )
    optimizer = torch.optim.Adam(model.parameters(), options["learning_rate"])
    for update in range(options["updates"]):
        loss = cross_entropy(model, *language.draw(options["batch"]), words)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), options["clip"])
        optimizer.step()
        if update % 50 == 0:
            harness.progress(f"{settings['source']}, seed {seed}: {update}, {loss.item():.3f} nats")
    model.eval()
    source, target = language.draw(options["test"])
    with torch.no_grad():
        perplexity = math.exp(cross_entropy(model, source, target, words))
        written = model.write(source, len(target), words)
    right = 100 * float((written == target).float().mean())
    return {"perplexity": round(perplexity, 3), "right": round(right, 2)}


def cross_entropy(model: nn.Module, source: Tensor, target: Tensor, start: int) -> Tensor:
    """Of every word after the true ones before it."""
    fed = torch.cat([torch.full_like(target[:1], start), target[:-1]])
    return nn.functional.cross_entropy(model(source, fed).flatten(0, 1), target.flatten())


if __name__ == "__main__":
    harness.main(__file__, attempt)
