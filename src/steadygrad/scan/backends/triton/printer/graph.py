"""A traced graph as lines of Triton, on a block of rows and units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, fx

from steadygrad.scan.backends.triton.printer.operations import LINES, REDUCED, is_literal, literal
from steadygrad.scan.ir.operations import NUMBERS, POINTWISE, REDUCTIONS, SHAPES, Unprintable
from steadygrad.scan.ir.step_graph import PLAIN

IGNORED = ("dtype", "layout", "device", "pin_memory", "memory_format", "implicit")
"""Keyword arguments that change no value."""


@dataclass(frozen=True)
class Printed:
    """A printed graph: its lines, and the expressions of the outputs that were asked for."""

    lines: list[str]
    values: list[str]


def outputs_of(graph: fx.Graph) -> list[fx.Node]:
    """The values that a graph returns."""
    (output,) = (n for n in graph.nodes if n.op == "output")
    return list(output.args[0])  # type: ignore[arg-type]


def needed(graph: fx.Graph, wanted: Sequence[fx.Node]) -> list[fx.Node]:
    """The nodes that some outputs depend on, in order."""
    live = set(wanted)
    for node in reversed(list(graph.nodes)):
        if node in live:
            live.update(node.all_input_nodes)
    return [n for n in graph.nodes if n in live and n.op != "output"]


def reduces(graph: fx.Graph) -> bool:
    """Whether a graph sums over units, so that a block has to hold whole rows."""
    return any(n.target in REDUCTIONS for n in graph.nodes)


class GraphPrinter:
    """Prints graphs whose values are blocks ``(rows, units)``, or one column of rows.

    Args:
        size: Units, ``H``; a number in the text.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def print(
        self,
        graph: fx.Graph,
        wanted: Sequence[fx.Node],
        given: Callable[[str], str],
        prefix: str,
    ) -> Printed:
        """Print what some outputs need.

        Args:
            graph: Traced operations.
            wanted: The outputs.
            given: Expression of an argument of the graph, by name; asked only for what is needed.
            prefix: Set before every name that the lines assign.

        Raises:
            Unprintable: There is no expression for an operation.
        """
        lines: list[str] = []
        names: dict[fx.Node, str] = {}
        numbers: dict[fx.Node, float] = {}
        is_row: dict[fx.Node, bool] = {}
        for node in needed(graph, wanted):
            if node.target in NUMBERS:
                self._number(node, numbers)
                continue
            inputs = [i for i in node.all_input_nodes if i.target not in NUMBERS]
            rows = all(is_row[i] for i in inputs)
            if node.op == "placeholder":
                text, is_row[node] = given(node.name), False
            elif node.target in REDUCTIONS:
                _check_reduction(node, rows)
                (value,) = inputs
                text, is_row[node] = REDUCED[REDUCTIONS[node.target]](names[value], self.size), True
            elif node.target in POINTWISE:
                _check_shape(node)
                text = self._expression(node, names, numbers)
                is_row[node] = rows and "expand" not in str(node.target)
            else:
                raise Unprintable(str(node.target))
            # A copy, a value that an earlier graph has named, or a number.
            if text.isidentifier() or is_literal(text):
                names[node] = text
                continue
            names[node] = prefix + node.name
            lines.append(f"{names[node]} = {text}")
        return Printed(lines, [_name(n, names, numbers) for n in wanted])

    def _expression(
        self, node: fx.Node, names: dict[fx.Node, str], numbers: dict[fx.Node, float]
    ) -> str:
        def name(operand: object) -> str:
            return _name(operand, names, numbers)

        args = node.args[:1] if node.target in SHAPES else node.args
        operands = [None if a is None else name(a) for a in args]
        named = {
            key: value if isinstance(value, str) else name(value)
            for key, value in node.kwargs.items()
            if key not in IGNORED and value is not None
        }
        return LINES[POINTWISE[node.target]](*operands, **named)

    def _number(self, node: fx.Node, numbers: dict[fx.Node, float]) -> None:
        """Compute with sizes; the number of rows, which shapes alone may read, is left out."""
        if NUMBERS[node.target] == "size":
            if node.args[1] in (1, -1):
                numbers[node] = float(self.size)
            return
        operands = [numbers.get(a) if isinstance(a, fx.Node) else a for a in node.args]
        if None not in operands:
            numbers[node] = float(node.target(*operands))  # type: ignore[operator]


def _name(operand: object, names: dict[fx.Node, str], numbers: dict[fx.Node, float]) -> str:
    if not isinstance(operand, fx.Node):
        return literal(operand)
    if operand.target not in NUMBERS:
        return names[operand]
    if operand not in numbers:
        raise Unprintable("the number of rows as a value")
    return literal(numbers[operand])


def _check_reduction(node: fx.Node, of_rows: bool) -> None:
    axes = node.args[1] if len(node.args) > 1 else None
    if axes not in ([-1], [1], (-1,), (1,)) or of_rows:
        raise Unprintable(f"{node.target} other than over the last axis of a value per unit")


def _check_shape(node: fx.Node) -> None:
    """Refuse what is neither one value per unit nor one per row."""
    value = node.meta.get("val")
    shape = tuple(int(s) for s in value.shape) if isinstance(value, Tensor) else ()
    if shape not in (PLAIN, (PLAIN[0], 1), PLAIN[:1], ()):
        raise Unprintable(f"{node.target} to a value of other shape than (B, H) or (B, 1)")
