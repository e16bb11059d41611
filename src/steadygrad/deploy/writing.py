"""A trained language model at work: text from a beginning, all at once or line by line."""

import itertools
from collections.abc import Iterator
from typing import final

import torch

from steadygrad.errors import InputError
from steadygrad.plain import Misfit
from steadygrad.tasks.text_spec import TextSpec
from steadygrad.train.model import SequenceModel
from steadygrad.train.model_file import ModelFacts
from steadygrad.train.sampling import sample, start_of

TEMPERATURE = 0.8
LINE = 400  # symbols of an answer in a stream, at most
MOST_BEFORE = 4000  # symbols before an answer that a stream keeps


@final
class TextModel:
    """A trained language model with its symbols.

    Args:
        module: In evaluation mode.
        facts: Of its file.

    Attributes:
        module: The ``torch.nn.Module``; codes ``(T, B)`` to logits ``(T, B, V)`` and a state.
        facts: Options, versions and data of its training.
        spec: Its symbols.
    """

    def __init__(self, module: SequenceModel, facts: ModelFacts) -> None:
        assert facts.data is not None
        self.module, self.facts = module, facts
        try:
            self.spec = TextSpec.of({k: v for k, v in facts.data.items() if k != "kind"})
        except Misfit as error:
            raise InputError(
                f"the model of {facts.file} is of another version ({error}); train it again"
            ) from None

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = 500,
        temperature: float = TEMPERATURE,
        seed: int | None = None,
    ) -> str:
        """Return ``length`` symbols that the model goes on with; without the prompt.

        Args:
            prompt: What comes before.
            length: Symbols.
            temperature: 0 takes the most probable symbol, 1 draws as the model has learnt.
            seed: The same seed draws the same text; another one each time if not given.

        Raises:
            InputError: A symbol in the prompt that the model does not know, or options that mean
                nothing.
        """
        if length < 1:
            raise InputError(f"length {length}: expected at least 1 symbol")
        drawn = self.symbols(prompt, temperature=temperature, seed=seed)
        return self._glue.join(itertools.islice(drawn, length))

    def symbols(
        self, prompt: str = "", *, temperature: float = TEMPERATURE, seed: int | None = None
    ) -> Iterator[str]:
        """Return the symbols one by one, without end; arguments and errors as `generate`."""
        generator = _generator(seed)
        codes = self.spec.encode(prompt) or start_of(self.spec, generator)
        drawn = sample(self.module, self.spec, codes, temperature, generator)
        return (self.spec.vocabulary[code] for code in drawn)

    def stream(self, *, temperature: float = TEMPERATURE, seed: int | None = None) -> "TextStream":
        """Return a stream: a line in, the line that the model goes on with out."""
        return TextStream(self, temperature, _generator(seed))

    @property
    def _glue(self) -> str:
        return "" if self.spec.symbol == "char" else " "


@final
class TextStream:
    """Takes one line after the other, and answers each with the line that may come next.

    Args:
        model: The model.
        temperature: As in `TextModel.generate`.
        generator: What is drawn from.
    """

    def __init__(self, model: TextModel, temperature: float, generator: torch.Generator) -> None:
        self.model, self.temperature, self.generator = model, temperature, generator
        self._before: list[int] = []

    def push(self, line: str) -> str:
        """Take in a line; return the model's next one, which it remembers as well.

        Raises:
            InputError: A symbol that the model does not know.
        """
        spec = self.model.spec
        text = line.rstrip("\r\n")
        ends = "\n" if spec.symbol == "char" and "\n" in spec.vocabulary else ""
        given = self._before + spec.encode(text + ends)
        if not given:
            given = start_of(spec, self.generator)
        answer: list[int] = []
        for code in sample(self.model.module, spec, given, self.temperature, self.generator):
            answer.append(code)
            if (ends and spec.vocabulary[code] == ends) or len(answer) >= LINE:
                break
        self._before = (given + answer)[-MOST_BEFORE:]
        return spec.decode(answer).rstrip("\n")


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
