"""What reading the source backwards gains an encoder-decoder that has to copy it.

Forwards, the first token has to be carried over the whole source; backwards it was read last. On
the task of writing the source backwards it is the other way round: reversal costs.

python examples/reversal.py [--steps 400] [--seeds 3] [--length 12]
"""

import argparse
from statistics import mean

import torch
from torch import nn

from steadygrad.nn import EncoderDecoder

SYMBOLS, BATCH = 8, 64


def train(
    reverse: bool, backwards: bool, seed: int, steps: int, length: int, attention: bool = False
) -> float:
    """Return the share of tokens written right, each after the model's own ones before it."""
    torch.manual_seed(seed)
    start = SYMBOLS
    model = EncoderDecoder(
        SYMBOLS, SYMBOLS + 1, 64, 16, reverse_source=reverse, attention=attention
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        source = torch.randint(SYMBOLS, (length, BATCH))
        return source, source.flip(0) if backwards else source

    for _ in range(steps):
        source, target = draw()
        fed = torch.cat([torch.full((1, BATCH), start), target[:-1]])
        optimizer.zero_grad()
        logits = model(source, fed)
        nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    source, target = draw()
    return float((model.write(source, length, start) == target).float().mean())


def main() -> None:
    """Train every combination over all seeds and print the gain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--length", type=int, default=12)
    options = parser.parse_args()
    print(f"share of {options.length} tokens right after {options.steps} steps (chance 0.125)")
    for backwards in (False, True):
        found = {
            reverse: [
                train(reverse, backwards, seed, options.steps, options.length)
                for seed in range(options.seeds)
            ]
            for reverse in (False, True)
        }
        name = "reverse" if backwards else "copy"
        for reverse, shares in found.items():
            how = "backwards" if reverse else "forwards"
            print(f"  {name:<8} source read {how:<9} {[round(s, 3) for s in shares]}")
        gain = mean(found[True]) - mean(found[False])
        print(f"  {name:<8} gain of reversal: {gain:+.3f}, mean of {options.seeds} seeds")


if __name__ == "__main__":
    main()
