"""Sample text from a trained model, symbol by symbol."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from steadygrad.errors import InputError
from steadygrad.tasks.text_spec import TextSpec
from steadygrad.train.model import Carried, SequenceModel


def start_of(spec: TextSpec, generator: torch.Generator) -> list[int]:
    """Return the symbol before a text without a prompt: a new line, or a random symbol."""
    if "\n" in spec.vocabulary:
        return [spec.vocabulary.index("\n")]
    known = [c for c in range(len(spec.vocabulary)) if c != spec.unknown]
    return [known[int(torch.randint(len(known), (1,), generator=generator))]]


def sample(
    model: SequenceModel,
    spec: TextSpec,
    codes: Sequence[int],
    temperature: float,
    generator: torch.Generator,
) -> Iterator[int]:
    r"""Draw symbols without end, each of which is the model's next input.

    .. math::
        p(b) \propto e^{z_b / \tau}

    with logits :math:`z` and temperature :math:`\tau`; 0 takes the most probable. The code for an
    unknown symbol is never drawn.

    Args:
        model: In evaluation mode.
        spec: Its symbols.
        codes: Codes of the prompt, at least one.
        temperature: 0 or above.
        generator: Source of randomness.

    Raises:
        InputError: The temperature is below 0.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise InputError(f"temperature {temperature:g}: expected 0 or above")
    device = next(model.parameters()).device
    state: Carried | None = None
    given = torch.tensor(codes, device=device)[:, None]
    with torch.no_grad():
        while True:
            outputs, state = model(given, state)
            code = _draw(outputs[-1, 0].double().cpu(), spec.unknown, temperature, generator)
            yield code
            given = torch.tensor([[code]], device=device)


def _draw(logits: Tensor, never: int | None, temperature: float, generator: torch.Generator) -> int:
    if never is not None:
        logits[never] = -torch.inf
    if temperature == 0:
        return int(logits.argmax())
    shares = torch.softmax((logits - logits.max()) / temperature, 0)
    return int(torch.multinomial(shares, 1, generator=generator))
