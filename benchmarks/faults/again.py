"""Run a sample of the labelled runs again, with the rules as they are now.

    python -m benchmarks.faults.again [--each 3] [--healthy 24] [--minutes 40] [--draw 0]

The whole benchmark takes days of processor time. Its labels do not depend on the rules: so many
runs of each fault, and healthy ones, are drawn from the parts that were not tuned on, by the number
of the draw, and trained again under two watches, one after the other:

- ``every``: as the whole benchmark has it, ``every=10, input_probe=False`` and the planned steps;
  the first alarm counts;
- ``default``: ``sg.watch(model, optimizer, lag=...)``; the verdict at the end counts.

Beside both stands what the committed verdicts say of the same runs. Runs are taken in a shuffled
order, fault after fault, so that those done within the time are a fair sample as well; what is done
is kept in ``again-0.jsonl``, by the number of the draw, and not done again.
"""

import argparse
import json
import random
import time
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import steadygrad as sg
from benchmarks.faults import verdicts
from benchmarks.faults.network import Network
from benchmarks.faults.recipe import Recipe
from benchmarks.faults.settings import HALVES, settings
from benchmarks.faults.training import LOOK_EVERY, made, train
from benchmarks.faults.verdicts import OURS, Verdict

HERE = Path(__file__).parent
RESULT = HERE / "again.txt"
QUIET = ("healthy", "not judged")
Line = dict[str, Any]


class FirstAlarm:
    """The watch of the whole benchmark: its first alarm, and its verdict at the end."""

    name = "every"

    def begin(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
        self.watch = self._made(model, optimizer, recipe)
        self.first = ""

    def _made(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> sg.Watch:
        lag, steps = made(recipe).required_lag, recipe.updates
        return sg.watch(model, optimizer, lag=lag, every=LOOK_EVERY, steps=steps, input_probe=False)

    def loss(self, value: Tensor) -> None:
        self.watch.loss(value)

    def before_step(self, update: int) -> None:
        pass

    def validated(self, update: int, accuracy: float) -> None:
        pass

    def after_step(self, update: int) -> None:
        if not self.first and update % LOOK_EVERY == 1 and self.watch.verdict not in QUIET:
            self.first = self.watch.verdict

    def end(self) -> Any:
        self.watch.close()
        return self.first or self.watch.verdict


class AtTheEnd(FirstAlarm):
    """The watch with its default options."""

    name = "default"

    def _made(self, model: Network, optimizer: torch.optim.Optimizer, recipe: Recipe) -> sg.Watch:
        return sg.watch(model, optimizer, lag=made(recipe).required_lag)

    def after_step(self, update: int) -> None:
        pass


def sample(rows: Iterable[Verdict], each: int, healthy: int, draw: int) -> Iterator[Verdict]:
    """So many runs of each fault and of the healthy ones, fault after fault."""
    groups: dict[str, list[Verdict]] = {}
    for row in rows:
        if row.half != "calibration":
            groups.setdefault(row.kind if row.is_faulty else "healthy", []).append(row)
    dice = random.Random(draw)
    drawn: list[list[Verdict]] = []
    for kind in sorted(groups):
        count = min(healthy if kind == "healthy" else each, len(groups[kind]))
        drawn.append(dice.sample(groups[kind], count))
    found = [row for row in chain.from_iterable(zip_longest(*drawn)) if row is not None]
    return iter(found)


def complete(rows: Iterable[Verdict], path: Path, minutes: float) -> None:
    """Train what is missing, until the processor time is over."""
    recipes = {(r.half, r.pair, r.kind, r.variant): r for half in HALVES for r in settings(half)}
    done = {(line["pair"], line["kind"], line["variant"], line["seed"]) for line in kept(path)}
    end = time.process_time() + 60 * minutes
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            recipe = recipes.get((row.half, row.pair, row.kind, row.variant))
            if recipe is None or (row.pair, row.kind, row.variant, row.seed) in done:
                continue
            if time.process_time() > end:
                return
            said = {
                watch.name: train(recipe, row.seed, [watch()])["said"][0]
                for watch in (FirstAlarm, AtTheEnd)
            }
            alarm = row.alarms[OURS]
            line: Line = {
                "pair": row.pair,
                "kind": row.kind,
                "variant": row.variant,
                "seed": row.seed,
                "faulty": row.is_faulty,
                "committed": alarm[1] if alarm else "healthy",
                **said,
            }
            file.write(json.dumps(line) + "\n")
            file.flush()


def kept(path: Path) -> list[Line]:
    """What was done."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(lines: list[Line]) -> Iterator[str]:
    """Figures of each watch, and every answer that is not right."""
    faulty = [line for line in lines if line["faulty"]]
    healthy = [line for line in lines if not line["faulty"]]
    yield f"{len(faulty)} faulty and {len(healthy)} healthy runs"
    yield f"{'':12}{'right name':>14}{'any alarm':>14}{'called healthy':>16}{'false alarms':>14}"
    for who in ("committed", "every", "default"):
        right = sum(line[who] == line["kind"] for line in faulty)
        alarms = sum(line[who] not in QUIET for line in faulty)
        comfort = sum(line[who] == "healthy" for line in faulty)
        false = sum(line[who] not in QUIET for line in healthy)
        cells = [f"{n}/{len(faulty)}" for n in (right, alarms, comfort)]
        yield (f"{who:12}{cells[0]:>14}{cells[1]:>14}{cells[2]:>16}{f'{false}/{len(healthy)}':>14}")
    yield "\nnot right, or not as committed:"
    for line in lines:
        wanted = line["kind"] if line["faulty"] else "healthy"
        said = [line[who] for who in ("committed", "every", "default")]
        if any(each != wanted for each in said):
            name = f"{line['kind']}, {line['variant']}, {line['pair']}, seed {line['seed']}"
            yield f"  {'fault' if line['faulty'] else 'healthy'} {name}: {' | '.join(said)}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=3, help="runs of each fault")
    parser.add_argument("--healthy", type=int, default=24, help="healthy runs")
    parser.add_argument("--minutes", type=float, default=40, help="processor time at most")
    parser.add_argument("--draw", type=int, default=0, help="number of the sample")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = HERE / f"again-{args.draw}.jsonl"
    if not args.table:
        rows = verdicts.read(HERE / "verdicts.csv")
        complete(sample(rows, args.each, args.healthy, args.draw), runs, args.minutes)
    text = "\n".join(table(kept(runs)))
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
