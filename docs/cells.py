"""The page of cells, from their docstrings and traces: ``python -m docs.cells``."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import torch

from docs.docstring import Docstring, entries, items, markdown, parse
from steadygrad.cells import CELLS, Cell
from steadygrad.scan import trace
from steadygrad.scan.backends.c.kernel import printed
from steadygrad.scan.ir.operations import Unprintable

PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """\
# Cells

<!-- Made by `python -m docs.cells`; edit the docstrings in src/steadygrad/cells instead. -->

<!-- test: setup
import numpy as np
rows = np.sin(np.arange(300) / 3) + np.sin(np.arange(300) / 4.7)
with open("data.csv", "w") as file:
    file.write("units\\n" + "\\n".join(f"{v:.5f}" for v in rows) + "\\n")
-->

Every recurrence of Steadygrad: what it computes, what happens to the gradient in the backward
pass through time, and when to choose it. All of them are used in the same ways:

```python
import steadygrad as sg

layer = sg.Recurrent("lstm-peephole", input_size=3, hidden_size=64, num_layers=2)
layer = sg.Recurrent(sg.cells.LSTMPeephole(peephole_gradient=False), 3, 64)
```

```sh
steadygrad train data.csv --cell lstm-peephole:peephole_gradient=false
```

Unless a formula says otherwise $`x_t`$ is the input, $`h_t`$ the hidden state that the layer puts
out, W the input weights, R the recurrent weights and $`\\odot`$ the elementwise product.
*Products* counts the products with R that a step computes one after the other; those that share an
argument are fused.
"""


def products(cell: Cell) -> int:
    """How many products run in sequence at each step."""
    return len(trace(cell).products)


def compiles(cell: Cell) -> str:
    """Yes, or why the compiled recurrence cannot run the cell."""
    try:
        printed(cell, torch.float64, False)
    except Unprintable as error:
        return f"no: {error}"
    return "yes"


def table() -> Iterator[str]:
    """One line a cell."""
    yield "| cell | states | blocks of W | products | compiled |"
    yield "|---|---|---|---|---|"
    for name, kind in CELLS.items():
        cell = kind()
        states = ", ".join(cell.states)
        compiled = compiles(cell).partition(":")[0]
        yield (
            f"| [{name}](#{name}) | {states} | {len(cell.gates)} | {products(cell)} | {compiled} |"
        )


def description(doc: Docstring) -> Iterator[str]:
    """Equations first; from where the gradient is spoken of, under a heading of its own."""
    formula = next(i for i, p in enumerate(doc.paragraphs) if p.startswith(".. math::"))
    turn = next(
        (
            i
            for i, p in enumerate(doc.paragraphs)
            if i > formula and ("gradient" in p or "Jacobian" in p)
        ),
        len(doc.paragraphs),
    )
    yield from doc.paragraphs[:turn]
    if turn < len(doc.paragraphs):
        yield "**What becomes of the gradient.** " + doc.paragraphs[turn]
        yield from doc.paragraphs[turn + 1 :]


def facts(cell: Cell) -> Iterator[str]:
    """What the code says about a cell, beyond its text."""
    yield f"- States: {_listed(cell.states)}. Blocks of W: {_listed(cell.gates)}."
    if cell.recurrent != cell.gates:
        yield f"- Blocks of R: {_listed(cell.recurrent)}."
    if cell.per_unit:
        yield f"- Parameters per unit: {_listed(cell.per_unit)}."
    if cell.noise:
        yield f"- Noise in training: {_listed(cell.noise)}."
    yield f"- Products per step: {products(cell)}. Compiled: {compiles(cell)}."


def _listed(names: object) -> str:
    assert isinstance(names, tuple) or hasattr(names, "keys")
    return ", ".join(f"`{n}`" for n in names) or "none"  # type: ignore[attr-defined]


def section(name: str, kind: type[Cell]) -> Iterator[str]:
    """Everything about one cell, paragraph by paragraph."""
    cell, doc = kind(), parse(kind.__doc__ or "")
    yield f"## {name}"
    yield f"`sg.cells.{kind.__name__}`: {doc.summary}"
    yield from description(doc)
    yield f"**When to choose it.** {kind.choose_when}"
    options = dict(entries(doc.sections.get("Args", "")))
    if options:
        defaults = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
        yield "**Options**\n\n" + "\n".join(
            f"- `{option}={defaults.get(option)}`: {text}" for option, text in options.items()
        )
    yield "**Shapes.** " + " ".join(doc.sections.get("Shapes", "").split())
    yield "\n".join(facts(cell))
    yield "**Sources**\n\n" + "\n".join(f"- {s}" for s in items(doc.sections["References"]))


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "\n".join(table())]
    for name, kind in CELLS.items():
        parts += [markdown(part) for part in section(name, kind)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(CELLS)} cells")
