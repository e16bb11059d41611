"""A computation as a list of lines, each a function of a sum of products of earlier values.

The lines are data: Python evaluates them, the page's script evaluates the same lines, and both
write each one as a formula and with its numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Term = tuple[float, tuple[str, ...]]
"""A coefficient and factors: ``name``, ``1-name`` for 1 - v, ``1-name²`` for 1 - v²."""

FUNCTIONS: dict[str, Callable[[float], float]] = {
    "": lambda a: a,
    "tanh": math.tanh,
    "σ": lambda a: 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a)),
}


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: Name of the value, like ``h1(2)``, unit 1 at step 2, or ``dW11``, the gradient of W11.
        section: The part of the computation that it belongs to.
        terms: The summands.
        function: ``""``, ``"tanh"`` or ``"σ"``, applied to the sum.
    """

    name: str
    section: str
    terms: tuple[Term, ...]
    function: str = ""


@dataclass(frozen=True)
class Entry:
    """A line with its numbers.

    Attributes:
        name, section: As in `Line`.
        formula: With names: ``tanh(a1(2))``.
        numbers: With numbers: ``tanh(0.2500)``.
        value: The result.
    """

    name: str
    section: str
    formula: str
    numbers: str
    value: float


def evaluate(lines: Sequence[Line], given: Mapping[str, float]) -> list[Entry]:
    """Compute the lines in their order.

    Args:
        lines: Each uses names that are given or computed before.
        given: Values by name.
    """
    values, entries = dict(given), []
    for line in lines:
        total = sum(c * math.prod(_factor(f, values) for f in names) for c, names in line.terms)
        values[line.name] = FUNCTIONS[line.function](total)
        entries.append(
            Entry(
                line.name,
                line.section,
                _written(line, _name),
                _written(line, lambda f: _number(f, values)),
                values[line.name],
            )
        )
    return entries


def digits(value: float) -> str:
    """Four decimals; tiny numbers as powers of ten."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 5e-4 else f"{value:.2e}"


def _factor(factor: str, values: Mapping[str, float]) -> float:
    if not factor.startswith("1-"):
        return values[factor]
    value = values[factor[2:].removesuffix("²")]
    return 1 - (value * value if factor.endswith("²") else value)


def _name(factor: str) -> str:
    return f"(1 − {factor[2:]})" if factor.startswith("1-") else factor


def _number(factor: str, values: Mapping[str, float]) -> str:
    if factor.startswith("1-"):
        square = "²" if factor.endswith("²") else ""
        return f"(1 − {_signed(values[factor[2:].removesuffix('²')])}{square})"
    return _signed(values[factor])


def _signed(value: float) -> str:
    text = digits(value)
    return f"({text})" if text.startswith("-") else text


def _written(line: Line, write: Callable[[str], str]) -> str:
    parts = []
    for coefficient, factors in line.terms:
        product = "·".join(map(write, factors))
        if coefficient not in (1, -1):
            product = f"{abs(coefficient):g}·{product}"
        sign = "− " if coefficient < 0 else "+ " if parts else ""
        parts.append(sign + product)
    text = " ".join(parts) or "0"
    if not line.function:
        return text
    alone = len(line.terms) == 1 and len(line.terms[0][1]) == 1 and text.startswith("(")
    return f"{line.function}{text}" if alone else f"{line.function}({text})"
