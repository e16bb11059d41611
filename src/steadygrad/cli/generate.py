"""``steadygrad generate RUN``: write text with a trained model."""

import itertools
import json as json_format
from pathlib import Path

from steadygrad.errors import InputError


def generate(
    run: Path,
    prompt: str = "",
    length: int = 500,
    temperature: float = 0.8,
    seed: int | None = None,
    json: bool = False,
) -> int:
    """Continue a text with a trained language model, symbol by symbol.

    Args:
        run: Folder of the run, or its model.safetensors.
        prompt: Text to continue; a new line if not given.
        length: Symbols to write.
        temperature: 0 takes the most probable symbol, 1 draws with the learnt probabilities.
        seed: Seed of the draws; random if not given.
        json: Print JSON.
    """
    from steadygrad.deploy import TextModel, load

    if length < 1:
        raise InputError(f"--length {length}: expected at least 1")
    model = load(run)
    if not isinstance(model, TextModel):
        raise InputError(f"{run}: was trained on a table; use steadygrad forecast {run} FILE")
    if json:
        text = model.generate(prompt, length=length, temperature=temperature, seed=seed)
        document = {"prompt": prompt, "text": text, "temperature": temperature, "seed": seed}
        print(json_format.dumps(document, indent=2))
        return 0
    glue = "" if model.spec.symbol == "char" else " "
    symbols = model.symbols(prompt, temperature=temperature, seed=seed)
    print(prompt + (glue if prompt else ""), end="", flush=True)
    for symbol in itertools.islice(symbols, length):
        print(symbol, end=glue, flush=True)
    print()
    return 0
