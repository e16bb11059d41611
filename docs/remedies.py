"""The page of remedies, from what each states about itself: ``python -m docs.remedies``."""

import inspect
from collections.abc import Iterator
from pathlib import Path

from docs.docstring import markdown, parse
from steadygrad.faults import FAULTS
from steadygrad.remedies import REMEDIES, Remedy, ranked

PAGE = Path(__file__).with_suffix(".md")
TOP = """\
# Remedies

<!-- Made by `python -m docs.remedies`; edit the files in src/steadygrad/remedies instead. -->

<!-- test: setup
import numpy as np
rows = np.sin(np.arange(300) / 3) + np.sin(np.arange(300) / 4.7)
with open("data.csv", "w") as file:
    file.write("units\\n" + "\\n".join(f"{v:.5f}" for v in rows) + "\\n")
-->

Every remedy, what it claims, and its options with their defaults. A test measures each claim. All
are used in the same ways:

```python
import torch

import steadygrad as sg

model = torch.nn.LSTM(4, 16)
applied = sg.remedies.ForgetBias(value=3.0).apply(model)  # before the optimiser is made
print(applied.changed)
applied.undo()  # the model is what it was, bit for bit
```

```sh
steadygrad train data.csv --remedies forget-bias:value=3.0 clip-norm
```

[How to choose](choose.md) starts from what you see. `steadygrad bench remedies` measures all of
them on one vanishing and one exploding network.
"""


def section(name: str, remedy: type[Remedy]) -> Iterator[str]:
    """Everything about one remedy, paragraph by paragraph."""
    yield f"## {name}"
    doc = parse(inspect.getdoc(remedy) or "")
    yield markdown(doc.summary)
    yield f"**Claim:** {markdown(remedy.claim)}."
    yield from (markdown(text) for text in doc.paragraphs if text)
    helps = [fault for fault in FAULTS if name in ranked(fault)]
    if helps:
        named = ", ".join(f"[`{fault}`](faults.md#{fault})" for fault in helps)
        yield f"**Tried for** {named}."
    options = [f"`{o.name}={o.default!r}`" for o in remedy.fields()]
    if options:
        yield f"**Options:** {', '.join(options)}."


def page() -> str:
    """The whole page."""
    parts = [TOP]
    for name, remedy in REMEDIES.items():
        parts += section(name, remedy)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(REMEDIES)} remedies")
