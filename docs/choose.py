# ruff: noqa: E501  # lines of a page with figures to be put in
"""The page "how to choose", from remedies and committed tables: ``python -m docs.choose``."""

import re
from pathlib import Path

from steadygrad.faults import FAULTS
from steadygrad.remedies import REMEDIES, ranked

PAGE = Path(__file__).with_suffix(".md")
TABLE = Path(__file__).parents[1] / "benchmarks" / "results" / "remedies.txt"
COLUMNS = ("v_grad", "v_trained", "v_loss", "v_worst", "e_grad", "e_trained", "e_loss", "e_worst")
ROW = re.compile(r"^(\S+) +(?:RNN|LSTM) +" + r"(\S+) +" * len(COLUMNS) + r"(\S+)$")
TEXT = """\
# How to choose a remedy

<!-- Made by `python -m docs.choose`; edit docs/choose.py or the remedies instead. -->

Start from the symptom, check the measurement, apply a remedy, measure again. What a remedy claims
is measured by a test; what it did to two fixed problems is in
[one table](../benchmarks/results/remedies.txt), printed by `steadygrad bench remedies` (one sign
given at step 1 of 30, asked for after the last; 100 updates, 5 seeds, medians; a loss of 0.693
knows nothing). All figures below are from there unless another table is named.

## From the symptom

SYMPTOMS
Where the memory of the machine ends before the sequence does, take `remedies.Windows` with
carried state, `truncate`, or `checkpoint=True`. What each fault is and how it is recognised stands
in [faults.md](faults.md).

## What the evidence says

**A gradient that has vanished.** Untreated, 10^{nothing.v_grad} of it is left and the loss stays at
{nothing.v_loss}. A start that keeps lengths is enough here: `rotation-init` leaves 10^{rotation-init.v_grad}
and ends at {rotation-init.v_loss} (worst seed {rotation-init.v_worst}), `orthogonal-init` at
{orthogonal-init.v_loss} (worst {orthogonal-init.v_worst}). Held by construction, `orthogonal` ends at
{orthogonal.v_loss}, worst {orthogonal.v_worst}, at about two and a half times the time of an update.
`flossing` ends at {flossing.v_loss} (worst {flossing.v_worst}) and pays most. `source-reversal` ends at
{source-reversal.v_loss} with the gradient as it was ({source-reversal.v_grad}): it moves the lag, and not the
gradient. `omega` {omega.v_loss} (worst {omega.v_worst}): put a clip after it.

**A gate is no cure in 100 updates.** `gated` leaves 10^{gated.v_grad} and the loss at {gated.v_loss}:
more gradient than before, too little for so short a training. A forget bias of 1 leaves
10^{forget-bias.v_grad}, `chrono-init` at the right lag 10^{chrono-init.v_grad}.

**A clip repairs an explosion, and never a vanished gradient.** Untreated the loss ends at
{nothing.e_loss}; with `clip-norm` at {clip-norm.e_loss}, `z-clip` {z-clip.e_loss}, `ada-gc` {ada-gc.e_loss},
though the worst seed of each is near {clip-norm.e_worst}. On the vanished problem every clip leaves
it within 0.004 of where it was. By value it is not enough here ({clip-value.e_loss}): the bound of 1 is on single entries.
A start that does not explode is better than any clip: `orthogonal-init` {orthogonal-init.e_loss}, worst
{orthogonal-init.e_worst}.

**What keeps weights small does not save a gradient that explodes from the start**: `recurrent-decay`
{recurrent-decay.e_loss}, `norm-stabiliser` {norm-stabiliser.e_loss}, `activation-penalty`
{activation-penalty.e_loss}, `soft-orthogonal` {soft-orthogonal.e_loss} in 100 updates. They shape a long
training. A small `recurrent-decay` even buys its safety with memory: a network whose matrix stays
contracting forgets exponentially (Pascanu et al. 2013, section 3.1).

**Where a remedy did harm.** `identity-init` on tanh units ends at {identity-init.v_loss}, above knowing
nothing; `irnn` without a clip loses a seed to infinity; `jacobian-scale` brings the *mean* singular
value to 1, which for a contracting tanh network leaves the largest ones far above it:
10^{jacobian-scale.v_grad}, an explosion, and a loss of {jacobian-scale.v_loss}. `gradient-penalty` at its default
weight, and `flossing`, diverge on the exploding problem. Clip with them.

**In the papers' own settings.** Pascanu's temporal order, five seeds: at T = 20 clip and Omega need
1,080 updates in the mean, a clip alone 9,880, neither 9,380 (published 2k, 11k, 21k); at T = 50 they
solve 5, 4 and 0 (published 5, 5, 0; here in 60,000 updates, the last in 20,000). Delayed exclusive or,
delay 10, 300 updates, five seeds: with flossing 97.4 % right (87.0 to 100.0), without 50.1 %; the 75th
exponent goes from -2.45 to -1.10 nats per step before training, the first from -0.30 to -0.21.
`python -m benchmarks.papers.pascanu`, [rows](../benchmarks/papers/pascanu/result.json); `python -m
benchmarks.papers.flossing`, [rows](../benchmarks/papers/flossing/result.json).

## In a training loop

<!-- test: setup
import numpy as np
rows = np.sin(np.arange(300) / 3) + np.sin(np.arange(300) / 4.7)
with open("sales.csv", "w") as file:
    file.write("units\\n" + "\\n".join(f"{v:.5f}" for v in rows) + "\\n")
-->

```python
import torch

import steadygrad as sg

model = torch.nn.RNN(4, 16)
applied = sg.remedies.Omega(alpha=4.0).apply(model)  # before the optimiser is made
optimizer = torch.optim.Adam(model.parameters())
clip = sg.remedies.ClipNorm(1.0).begin(model, optimizer)  # what acts at every step

loss = model(torch.randn(30, 8, 4))[0][-1].pow(2).mean()
(loss + applied.penalty(loss)).backward()
clip()
optimizer.step()

applied.undo()  # bit for bit
```

```sh
steadygrad train sales.csv --remedies orthogonal_init omega:alpha=2 clip_norm
```

Penalties come before the clip, so that the clip bounds both. Of several that change weights the
last one wins. Then diagnose again: a remedy is kept for what it did to *this* model.

## All remedies, by fault

"""


def evidence() -> dict[str, str]:
    """Every figure of the committed table, by name of the remedy and column."""
    found: dict[str, str] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if row:
            name = row[1].partition(":")[0]
            for column, value in zip(COLUMNS, row.groups()[1:], strict=False):
                found.setdefault(f"{name}.{column}", value)  # the first control is the plain RNN's
    return found


def symptoms() -> str:
    """What is seen, what to look at, and what to try, fault by fault, the worst first."""
    lines = ["| you see | look at | it is | first | then |", "|---|---|---|---|---|"]
    for fault in FAULTS.values():
        first = [name for name in ranked(fault.name) if name in REMEDIES]
        rest = [n for n in sorted(REMEDIES) if fault.name in REMEDIES[n].helps and n not in first]
        listed = f"[{len(rest)} more](#{fault.name})"  # by name in the chapter on the fault
        short = ", ".join(f"`{name}`" for name in rest)
        then = [short if len(rest) <= 4 else listed, *fault.advice]
        cells = (
            fault.symptom,
            fault.look_at,
            f"[`{fault.name}`](faults.md#{fault.name})",
            ", ".join(f"`{name}`" for name in first) or "-",
            "; ".join(filter(None, then)) or "-",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def listing() -> str:
    """Every remedy under every fault that it is meant for, with its options and its claim."""
    lines: list[str] = []
    for fault in FAULTS:
        names = [name for name in sorted(REMEDIES) if fault in REMEDIES[name].helps]
        if not names:
            continue
        lines += [f"### {fault}", "", "| remedy | options | claim |", "|---|---|---|"]
        for name in names:
            remedy = REMEDIES[name]
            options = ", ".join(f"`{o.name}={o.default}`" for o in remedy.fields())
            claim = remedy.claim.replace("|", "\\|")
            lines.append(f"| `{name}` | {options or 'none'} | {claim} |")
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    figures = evidence()
    text = re.sub(
        r"\{([a-z-]+\.[ve]_[a-z]+)\}",
        lambda found: figures[found[1]],
        TEXT.replace("SYMPTOMS", symptoms()),
    )
    return re.sub(r"10\^(-?\d+(?:\.\d+)?)", r"10<sup>\1</sup>", text) + listing()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
