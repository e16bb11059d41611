"""Compare two runs: find the first training step, layer, gate and time step that differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.record import Run, read
from steadygrad.record.places import record_of
from steadygrad.report import curves, figures
from steadygrad.report import gradient_by_step as by_step
from steadygrad.report.chapter import chapter
from steadygrad.report.markup import Html, el, join, table
from steadygrad.report.notebook import plain_table
from steadygrad.report.page import document, save
from steadygrad.report.plot import reading
from steadygrad.report.sections import Section, contents, section

GATE = "gate:"
HALF = 2.0**-10
"""Relative precision of float16, in which a record stores heat maps."""
_MOST = 60  # quantities on a page


@dataclass(frozen=True)
class Parting:
    """The first difference of two runs in one quantity.

    Attributes:
        quantity: ``loss``, ``log10_grad``, ``gate:forget``, ...
        step: The first training step in both runs at which they differ.
        layer, state: Layer and state; None for a scalar of the whole run.
        gate: Name of the gate, for a quantity of a gate.
        time_step: For a quantity by time step, the first differing one that the backward pass
            reaches (the last in time; in a reverse direction the first).
        first, second: The values there.
    """

    quantity: str
    step: int
    layer: str | None
    state: str | None
    gate: str | None
    time_step: int | None
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """How far two runs agree; `print` it, or `save` it as a page.

    Attributes:
        names: Names of the two runs.
        partings: One for each quantity in which they differ, the earliest first; within a step
            first gates, then quantities by time step, then scalars of the whole run.
        steps: Number of training steps at which both have measured the same quantity.
        last: The last of these steps; None if there is none.
        options: Options that differ, by name: the values of both.
        only: For each run, the quantities that it alone has measured.
        paths: The two records.
    """

    names: tuple[str, str]
    partings: tuple[Parting, ...]
    steps: int
    last: int | None
    options: Mapping[str, tuple[Any, Any]]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    paths: tuple[Path, Path]

    @property
    def first(self) -> Parting | None:
        """The earliest parting; None if everything measured in both agrees."""
        return self.partings[0] if self.partings else None

    @property
    def step(self) -> int | None:
        """The first training step at which the runs part."""
        return self.first.step if self.first else None

    @property
    def layer(self) -> str | None:
        """The layer in which a quantity by layer parts first."""
        return next((p.layer for p in self.partings if p.layer is not None), None)

    @property
    def gate(self) -> str | None:
        """The gate that parts first."""
        return next((p.gate for p in self.partings if p.gate is not None), None)

    @property
    def time_step(self) -> int | None:
        """The time step at which a quantity by time step parts first."""
        return next((p.time_step for p in self.partings if p.time_step is not None), None)

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if not self.steps:
            return "Not compared: no training step has the same quantity measured in both runs."
        if self.first is None:
            return (
                f"No difference in what both runs have measured, over {self.steps:,} training "
                f"steps up to step {self.last:,}."
            )
        return f"The runs part at training step {self.first.step:,}: {_text(self.first)}."

    def __str__(self) -> str:
        lines = [f"{self.names[0]} and {self.names[1]}: {self.sentence}"]
        for part in self.partings[1:]:
            lines.append(f"  step {part.step:,}: {_text(part)}")
        for name, (one, other) in self.options.items():
            lines.append(f"  option {name}: {one!r} and {other!r}")
        for name, only in zip(self.names, self.only, strict=True):
            if only:
                lines.append(f"  measured in {name} alone: {', '.join(only)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "runs": [str(path) for path in self.paths],
            "sentence": self.sentence,
            **{k: getattr(self, k) for k in ("step", "layer", "gate", "time_step")},
            "compared_steps": self.steps,
            "last_compared_step": self.last,
            "partings": [asdict(p) for p in self.partings],
            "options": {name: list(pair) for name, pair in self.options.items()},
            "only": [list(names) for names in self.only],
        }

    def save(self, path: str | Path) -> Path:
        """Write one offline page, HTML or PDF; it replaces the file in one step."""
        with read(self.paths[0]) as one, read(self.paths[1]) as other:
            return save(_page(self, one, other), path)

    def _repr_html_(self) -> str:
        rows = [_row(p) for p in self.partings[:_MOST]]
        told = el("p", el("strong", self.sentence))
        return join([told, plain_table(_HEAD, rows) if rows else None])


def compare(a: Run | str | Path, b: Run | str | Path, *, tolerance: float = 1e-5) -> Comparison:
    """Find the first training step, layer, gate and time step at which two runs part.

    Only training steps at which both have measured the same quantity are compared; quantities
    measured by one alone are listed. NaN equals NaN, and inf equals inf.

    Args:
        a: A record, its file, or the folder of a run.
        b: Another.
        tolerance: Relative difference up to which two numbers count as the same. For heat maps,
            which are stored as log10 in float16, that format's precision is added.

    Raises:
        ValueError: The tolerance is negative or not finite.
        RecordError: A record cannot be read.

    Example:
        >>> import tempfile
        >>> from steadygrad.record import Record
        >>> folder = tempfile.mkdtemp()
        >>> for name, late in (("a", 3.0), ("b", 4.0)):
        ...     with Record.create(f"{folder}/{name}.db", config={}) as rec:
        ...         rec.scalars(0, {"loss": 5.0})
        ...         rec.scalars(1, {"loss": late})
        >>> compare(f"{folder}/a.db", f"{folder}/b.db").step
        1
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"compare: tolerance must be at least 0 and finite, got {tolerance}")
    if not isinstance(a, Run):
        with read(record_of(Path(a))) as run:
            return compare(run, b, tolerance=tolerance)
    if not isinstance(b, Run):
        with read(record_of(Path(b))) as run:
            return compare(a, run, tolerance=tolerance)
    steps: set[int] = set()
    found = [_scalar(a, b, name, tolerance, steps) for name in _shared(a, b)]
    keys = [key for key in a.quantities() if key in set(b.quantities())]
    found += [_rows(a, b, key, tolerance, steps) for key in keys]
    partings = sorted((p for p in found if p is not None), key=_order)
    return Comparison(
        _names(a, b),
        tuple(partings),
        len(steps),
        max(steps, default=None),
        _options(a.config, b.config),
        (_only(a, b), _only(b, a)),
        (a.path, b.path),
    )


def _shared(a: Run, b: Run) -> list[str]:
    there = set(b.scalar_names())
    return [name for name in a.scalar_names() if name in there]


def _scalar(a: Run, b: Run, name: str, tolerance: float, steps: set[int]) -> Parting | None:
    (at, one), (other_at, other) = a.scalars(name), b.scalars(name)
    common, i, j = np.intersect1d(at, other_at, return_indices=True)
    steps.update(common.tolist())
    differ = np.flatnonzero(~_same(one[i], other[j], tolerance))
    if not len(differ):
        return None
    k = int(differ[0])
    values = float(one[i][k]), float(other[j][k])
    return Parting(name, int(common[k]), None, None, None, None, *values)


def _rows(
    a: Run, b: Run, key: tuple[str, str, str], tolerance: float, steps: set[int]
) -> Parting | None:
    quantity, layer, state = key
    (at, one), (other_at, other) = a.rows(*key), b.rows(*key)
    common, i, j = np.intersect1d(at, other_at, return_indices=True)
    steps.update(common.tolist())
    width = max(one.shape[1], other.shape[1])
    gate = quantity.removeprefix(GATE) if quantity.startswith(GATE) else None
    for k, step in enumerate(common):
        first, second = _padded(one[i[k]], width), _padded(other[j[k]], width)
        differ = np.flatnonzero(~_same_rows(first, second, tolerance))
        if len(differ):
            # The backward pass begins at the last time step; a ratio by lag counts from there.
            is_forward = "reverse" in layer or quantity == "log10_ratio" or gate is not None
            t = int(differ[0] if is_forward else differ[-1])
            where = t if gate is None and quantity != "log10_ratio" else None
            pair = float(first.filled(np.nan)[t]), float(second.filled(np.nan)[t])
            return Parting(quantity, int(step), layer, state, gate, where, *pair)
    return None


def _padded(row: np.ma.MaskedArray, width: int) -> np.ma.MaskedArray:
    out = np.ma.masked_all(width, dtype=np.float64)
    out[: len(row)] = row
    return out


def _same(
    one: NDArray[np.float64], other: NDArray[np.float64], tolerance: float
) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        near = np.abs(one - other) <= tolerance * np.maximum(np.abs(one), np.abs(other))
    near &= np.isfinite(one) & np.isfinite(other)  # relative to inf, anything is small
    return near | (one == other) | (np.isnan(one) & np.isnan(other))


def _same_rows(
    one: np.ma.MaskedArray, other: np.ma.MaskedArray, tolerance: float
) -> NDArray[np.bool_]:
    """Compare rows of log10 values; an absent entry equals only another absent one."""
    absent, other_absent = np.ma.getmaskarray(one), np.ma.getmaskarray(other)
    a, b = np.ma.getdata(one), np.ma.getdata(other)
    with np.errstate(invalid="ignore"):
        room = HALF * np.maximum(np.abs(a), np.abs(b)) + math.log10(1 + tolerance)
        near = (np.abs(a - b) <= room) & np.isfinite(a) & np.isfinite(b)
    near |= (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(absent | other_absent, absent & other_absent, near)


def _order(part: Parting) -> tuple[int, int, int]:
    kind = 0 if part.gate is not None else 1 if part.time_step is not None else 2
    late = 0 if part.time_step is None else -part.time_step
    return part.step, kind, late


def _options(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys((*one, *other))
    return {n: (one.get(n), other.get(n)) for n in names if one.get(n) != other.get(n)}


def _only(run: Run, other: Run) -> tuple[str, ...]:
    scalars = set(other.scalar_names())
    maps = set(other.quantities())
    names = [name for name in run.scalar_names() if name not in scalars]
    return (
        *names,
        *(f"{q} in {layer}.{s}" for q, layer, s in run.quantities() if (q, layer, s) not in maps),
    )


def _names(a: Run, b: Run) -> tuple[str, str]:
    one, other = (r.path.parent.name if r.path.name == "run.db" else r.path.stem for r in (a, b))
    return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")


def _text(part: Parting) -> str:
    where = f"the {part.gate} gate of " if part.gate else ""
    place = f" in {where}{part.layer}" if part.layer else ""
    place += f", state {part.state}" if part.state not in (None, "h") else ""
    place += f", time step {part.time_step:,}" if part.time_step is not None else ""
    is_log = part.quantity.startswith("log10")
    name = "share of dead units" if part.gate else part.quantity.removeprefix("log10_")
    return f"{name.replace('_', ' ')}{place} ({' and '.join(_values(part, is_log))})"


def _values(part: Parting, is_log: bool) -> tuple[str, str]:
    """The two values, with as many digits as it takes to tell them apart."""
    one, other = (reading(v, is_log) for v in (part.first, part.second))
    if one != other:
        return one, other
    for digits in range(4, 18):
        texts = [f"{'10^' * is_log}{v:.{digits}g}" for v in (part.first, part.second)]
        if texts[0] != texts[1]:
            return texts[0], texts[1]
    return one, other


_HEAD = ("Quantity", "Training step", "Layer", "Gate", "Time step", "First", "Second")


def _row(part: Parting) -> list[str]:
    is_log = part.quantity.startswith("log10")
    name = part.quantity.removeprefix("log10_").removeprefix(GATE).replace("_", " ")
    layer = f"{part.layer}.{part.state}" if part.layer else "\u2013"
    return [
        f"dead share, {name}" if part.gate else name,
        figures.plain(part.step),
        layer,
        part.gate or "\u2013",
        "\u2013" if part.time_step is None else figures.plain(part.time_step),
        *_values(part, is_log),
    ]


def _page(found: Comparison, one: Run, other: Run) -> str:
    told = [chapter(run, name) for run, name in zip((one, other), found.names, strict=True)]
    sections = [
        _partings(found),
        _differences(found),
        by_step.gradient_by_step(told),
        curves.curves(told),
    ]
    there = [s for s in sections if s is not None]
    names = " and ".join(found.names)
    header = el("header", el("p", names, class_="kicker"), el("h1", found.sentence))
    body = el("main", header, contents(there), *there, el("footer", "Made by Steadygrad."))
    return document(f"{found.sentence} \u2013 {names}", body)


def _partings(found: Comparison) -> Section:
    title = "Where they part"
    if not found.partings:
        return section(title, el("p", found.sentence, class_="quiet"))
    rows = [_row(p) for p in found.partings[:_MOST]]
    more = len(found.partings) - _MOST
    rest = el("p", f"{more} more quantities part later.", class_="quiet") if more > 0 else None
    about = (
        f"For each quantity the first training step at which the runs differ; {found.steps:,} "
        f"training steps were compared, the last is {found.last:,}."
    )
    return section(title, el("p", about), table(_HEAD, rows, class_="stack"), rest)


def _differences(found: Comparison) -> Section | None:
    parts: list[Html] = []
    if found.options:
        rows: Sequence[Sequence[object]] = [
            (name, str(one), str(other)) for name, (one, other) in found.options.items()
        ]
        parts.append(table(("Option", *found.names), rows, class_="stack"))
    for name, only in zip(found.names, found.only, strict=True):
        if only:
            parts.append(el("p", f"Measured in {name} alone: {', '.join(only)}."))
    return section("What else differs", *parts) if parts else None
