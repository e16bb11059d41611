"""Everything that a language model needs to know about its text, as one frozen JSON-able value."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steadygrad.errors import InputError
from steadygrad.plain import fit

Symbol = Literal["char", "word"]
UNKNOWN = ""  # never a symbol of a text


@dataclass(frozen=True)
class TextSpec:
    """Symbols and their codes.

    Args:
        vocabulary: Symbols by code; "" is any other symbol.
        symbol: Kind of symbol.
        window: Time steps between two cuts of the gradient in training.
    """

    vocabulary: tuple[str, ...]
    symbol: Symbol
    window: int

    def encode(self, text: str) -> list[int]:
        """Return the codes of a text.

        Raises:
            InputError: The model does not know a symbol, and has no code for unknown ones.
        """
        code = {symbol: number for number, symbol in enumerate(self.vocabulary)}
        unknown = code.get(UNKNOWN)
        found: list[int] = []
        for symbol in text if self.symbol == "char" else text.split():
            number = code.get(symbol, unknown)
            if number is None:
                raise InputError(
                    f"{symbol!r} did not occur in the text that the model was trained on; it knows"
                    f" {len(self.vocabulary)} symbols: {self._some()}"
                )
            found.append(number)
        return found

    def decode(self, codes: Sequence[int]) -> str:
        """Return the text of codes; words with a blank between."""
        return ("" if self.symbol == "char" else " ").join(self.vocabulary[c] for c in codes)

    @property
    def unknown(self) -> int | None:
        """The code of any other symbol."""
        return self.vocabulary.index(UNKNOWN) if UNKNOWN in self.vocabulary else None

    def plain(self) -> dict[str, Any]:
        """Return the value as JSON can hold it."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "TextSpec":
        """Read back what `plain` returned."""
        return fit(cls, plain, "text")

    def _some(self) -> str:
        shown = [s for s in self.vocabulary if s.strip()]
        most = 80 if self.symbol == "char" else 12
        joined = ("" if self.symbol == "char" else ", ").join(shown[:most])
        return joined + (" ..." if len(shown) > most else "")
