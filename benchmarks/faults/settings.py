"""Every setting of the benchmark: twins, faults by dose, and healthy ones that look ill."""

from collections.abc import Iterator

from benchmarks.faults.network import KEEPS
from benchmarks.faults.recipe import Half, Recipe
from benchmarks.faults.training import made

# Thresholds were set on the first part; tasks and cells of the second are all new. The third has
# five cells that are new to both, then pairs of which neither has seen the two together, picked
# because their twin learns and their faults fail. So has the fourth, run once, after the last rule
# had changed.
HALVES: dict[Half, tuple[tuple[str, str], ...]] = {
    "calibration": (
        ("temporal-order:length=30", "elman"),
        ("temporal-order:length=30", "lstm"),
        ("temporal-order:length=60", "gru"),
        ("adding:length=20", "elman:nonlinearity=relu"),
        ("adding:length=20", "lstm"),
        ("adding:length=30", "gru"),
        ("delayed-xor:delay=3,length=20", "elman"),
        ("delayed-xor:delay=3,length=20", "elman:nonlinearity=relu"),
        ("delayed-xor:delay=3,length=20", "gru"),
        ("permutation:length=40", "irnn"),
        ("permutation:length=30", "lstm-peephole"),
        ("permutation:length=40", "mgu"),
        ("multiplication:length=20", "lstm-peephole"),
        ("multiplication:length=30", "lstm-coupled"),
        ("multiplication:length=30", "gru-original"),
        ("parity:length=16,every=true", "irnn"),
        ("parity:length=16,every=true", "gru-original"),
        ("parity:length=16,every=true", "mgu"),
    ),
    "held-out": (
        ("copy:length=24,symbols=2,recall=1", "lem"),
        ("copy:length=24,symbols=2,recall=1", "slstm"),
        ("copy:length=24,symbols=2,recall=1", "gru-layer-norm"),
        ("copy:length=8,symbols=2,recall=2", "mut1"),
        ("copy:length=8,symbols=2,recall=2", "elman-layer-norm:nonlinearity=relu"),
        ("copy:length=8,symbols=2,recall=2", "lstm-layer-norm"),
        ("memorisation:length=6,pattern=3,values=2", "lem"),
        ("memorisation:length=6,pattern=3,values=2", "elman-layer-norm"),
        ("memorisation:length=6,pattern=3,values=2", "gru-layer-norm"),
        ("copy:length=40,symbols=2,recall=1", "modrelu"),
        ("copy:length=40,symbols=2,recall=1", "linear-transition"),
        ("copy:length=24,symbols=2,recall=1", "mut2"),
        ("copy:length=12,symbols=2,recall=2", "lstm-greff"),
        ("memorisation:length=30,pattern=1,values=2", "modrelu"),
        ("memorisation:length=30,pattern=1,values=2", "linear-transition"),
        ("memorisation:length=30,pattern=1,values=2", "mut3"),
    ),
    "fresh": (
        ("copy:length=30,symbols=2,recall=1", "exprnn"),
        ("copy:length=30,symbols=2,recall=1", "scornn"),
        ("copy:length=30,symbols=2,recall=1", "clockwork"),
        ("copy:length=30,symbols=2,recall=1", "antisymmetric-gated"),
        ("copy:length=30,symbols=2,recall=1", "lstm-chrono:lag=30"),
        ("copy:length=40,symbols=2,recall=1", "irnn"),
        ("copy:length=40,symbols=2,recall=1", "lstm"),
        ("copy:length=40,symbols=2,recall=1", "gru"),
        ("copy:length=24,symbols=2,recall=1", "elman:nonlinearity=relu"),
        ("memorisation:length=30,pattern=1,values=2", "irnn"),
        ("memorisation:length=30,pattern=1,values=2", "elman:nonlinearity=relu"),
        ("memorisation:length=30,pattern=1,values=2", "lstm"),
        ("permutation:length=40", "modrelu"),
        ("parity:length=16,every=true", "modrelu"),
        ("temporal-order:length=30", "lstm-dropout"),
        ("temporal-order:length=30", "gru-zoneout"),
        ("adding:length=20", "lstm-1997"),
    ),
    "blind": (
        ("copy:length=12,symbols=2,recall=2", "elman"),
        ("copy:length=12,symbols=2,recall=2", "irnn"),
        ("copy:length=24,symbols=2,recall=1", "mgu"),
        ("memorisation:length=30,pattern=1,values=2", "gru"),
        ("delayed-xor:delay=3,length=20", "modrelu"),
        ("delayed-xor:delay=3,length=20", "elman-layer-norm"),
        ("temporal-order:length=30", "lstm-zoneout"),
        ("adding:length=20", "gru-zoneout"),
    ),
}
SEEDS = 5


def settings(half: Half) -> Iterator[Recipe]:
    """All settings of a half: the twin of each pair first."""
    for task, cell in HALVES[half]:
        twin = Recipe(half, task, cell)
        yield twin
        yield from healthy(twin)
        yield from faulty(twin)


def healthy(twin: Recipe) -> Iterator[Recipe]:
    """What is fine and does not look it."""

    def fine(variant: str, **changes: object) -> Recipe:
        return twin.but("healthy", variant, **changes)

    yield fine("goes on after it is solved", goes_on=True)
    yield fine("long warm-up", warm_up=150)
    yield fine("one spike", spike=40)
    yield fine("noisy targets", noise=0.15)
    yield fine("every step clipped, Adam", clip=1e-3)
    yield fine("first steps overflow", scale=3e38)
    yield fine("as torch starts it", uniform=True)
    yield fine("higher rate", rate=3 * twin.rate)
    yield fine("momentum", optimizer="sgd", rate=0.1)
    yield fine("two layers", layers=2)
    name = twin.cell.partition(":")[0]
    if name in KEEPS:
        yield fine("gates latched open", keep=4.0)
        yield fine("gates lean to forgetting", keep=0.0)
    if is_relu(twin.cell):
        yield fine("half of the units off", shifted="candidate", shift=-5.0, share=0.5)
    if _can_mask(twin.task):
        yield fine("padding, masked", padding=0.6)
    if twin.task.startswith("delayed-xor"):
        yield fine("vanished beyond the lag", task="delayed-xor:delay=3,length=60", gain=0.9)
        yield fine("truncated beyond the lag", task="delayed-xor:delay=3,length=60", truncate=20)
    if _is_regression(twin.task):
        yield fine("bounded likelihood", likelihood="bounded")


def faulty(twin: Recipe) -> Iterator[Recipe]:
    """One change each, in two or three doses."""
    name = twin.cell.partition(":")[0]
    lag = made(twin).required_lag or 1
    for gain in (0.3, 0.5, 0.7):
        if name not in KEEPS:
            yield twin.but("vanishing", f"gain {gain}", gain=gain)
    for keep in (-3.0, -5.0):
        if name in KEEPS:
            yield twin.but("vanishing", f"keeping gate {keep:g}", keep=keep)
    for gain in (
        (1.5, 2.0) if is_relu(twin.cell) else (3.0, 6.0) if name not in KEEPS else (8.0, 20.0)
    ):
        yield twin.but("exploding", f"gain {gain:g}", gain=gain)
    if name in KEEPS:
        gates = {"lstm": "output", "lstm-peephole": "output"}.get(name)
        if gates:
            yield twin.but("saturated", "output gate shut", shifted="output", shift=-15.0)
            yield twin.but("saturated", "input gate shut", shifted="input", shift=-15.0)
        else:
            gate = KEEPS[name][0]
            yield twin.but(
                "saturated", "keeping gate stuck", shifted=gate, shift=18.0 * KEEPS[name][1]
            )
    if not is_relu(twin.cell):
        yield twin.but("saturated", "candidate stuck", shifted="candidate", shift=8.0)
        for where in (0, 1):
            yield twin.but(
                "saturated",
                f"candidate stuck in layer {where} of 2",
                shifted="candidate",
                shift=12.0,
                layers=2,
                where=where,
            )
    else:
        yield twin.but("dead", "all units", shifted="candidate", shift=-6.0)
        yield twin.but("dead", "most units", shifted="candidate", shift=-6.0, share=0.95)
    for factor in (60.0, 300.0):
        yield twin.but("lr-high", f"rate x {factor:g}", rate=twin.rate * factor)
    for factor in (300.0, 3000.0):
        yield twin.but("lr-low", f"rate / {factor:g}", rate=twin.rate / factor)
    for clip in (1e-2, 1e-3):
        yield twin.but("clip-tight", f"bound {clip:g}", optimizer="sgd", rate=0.1, clip=clip)
    for steps in sorted({min(2, lag), max(lag // 3, 1)}):
        yield twin.but("truncated", f"every {steps} steps", truncate=steps)
    yield twin.but("nonfinite", "one NaN in the input", poison="input", poisoned_at=23)
    yield twin.but("nonfinite", "one NaN weight", poison="weight", poisoned_at=12)
    yield twin.but("nonfinite", "one infinite bias", poison="state", poisoned_at=5)
    if _can_mask(twin.task):
        for name, share in PADDING["recall" if _is_recall(twin.task) else "other"].items():
            yield twin.but("padding", name, padding=share, pads_count=True)
    if _is_regression(twin.task):
        yield twin.but("nonfinite", "one infinite target", poison="target", poisoned_at=31)


# Where a sequence is almost all silence it takes more of it to be lost in.
PADDING = {
    "recall": {"nine tenths": 0.9, "all but three in a hundred": 0.97},
    "other": {"four fifths": 0.8, "nine tenths": 0.9},
}
TWINS = {
    "clip-tight": "momentum",
    "padding": "padding, masked",
}
"""The healthy setting that a fault is a change of, where it is not the plain one."""


def twin_of(kind: str, variant: str) -> str:
    """Name of the healthy setting that has to succeed for a fault to count."""
    return "two layers" if variant.endswith("of 2") else TWINS.get(kind, "plain")


def is_relu(cell: str) -> bool:
    """Whether the cell's units are rectified."""
    return "relu" in cell or cell.startswith("irnn")


def _can_mask(task: str) -> bool:
    """Whether the task's loss leaves steps out at which nothing is asked."""
    return task.startswith(("delayed-xor", "parity")) or _is_recall(task)


def _is_recall(task: str) -> bool:
    return task.startswith(("copy", "memorisation"))


def _is_regression(task: str) -> bool:
    return task.startswith(("adding", "multiplication"))
