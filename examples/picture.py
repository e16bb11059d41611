"""Draw the picture of the README: the network of its first example, as it is and with the patch.

python examples/picture.py [docs/picture.svg]
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steadygrad.diagnosis import diagnose
from steadygrad.report import Line, Plot, lines
from steadygrad.report.line_styles import STYLES

README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    """Run the first block, measure, paste the patch, measure again, and draw both."""
    code = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), names)
    stock = names["d"]
    exec(stock.findings[0].patch, {"torch": torch, "model": names["model"]})
    patched = diagnose(names["model"], names["loss_fn"], lag=49)
    drawn: list[Line] = []
    for number, (name, d) in enumerate((("nn.LSTM as it is", stock), ("with the patch", patched))):
        log10 = d.flow["lstm"].log10_grad
        drawn.append(Line(name, np.arange(float(len(log10))), log10 - log10[-1], STYLES[number]))
    plot = Plot(
        f"Dead and alive: {stock.verdict} before the patch, {patched.verdict} with it",
        "The first example of the README.",
        drawn,
        "time step (the loss reads the last one, the task needs the first)",
        "share of the gradient that is left, log scale",
        is_log=True,
        powers=True,
    )
    print(lines(plot, sys.argv[1] if len(sys.argv) > 1 else "docs/picture.svg"))


if __name__ == "__main__":
    main()
