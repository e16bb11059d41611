"""``steadygrad bench TASK``: a grid of runs, live, resumable, as a table and as a page."""

import json as json_format
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

from steadygrad import files
from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError
from steadygrad.plain import Misfit, fitted, shown

if TYPE_CHECKING:
    from steadygrad.bench import Grid
    from steadygrad.bench.executors import Executor
    from steadygrad.report.grid_table import Row

CSV, TEX = "table.csv", "table.tex"


@dataclass(frozen=True)
class BenchOptions:
    """Options of a grid.

    Args:
        cells: Cells with their options, commas between: lstm,gru,elman:nonlinearity=relu; your own
            as module:Class or file.py:Class.
        lengths: Lengths that the task is given, commas between; its own if not given.
        remedies: Sets of remedies, commas between, a plus within: none,forget-bias+clip-value.
        seeds: Number of seeds.
        hidden: Hidden features.
        layers: Recurrent layers.
        batch_size: Sequences in a batch.
        updates: Training steps at most; a run ends when it solves the task.
        learning_rate: Step size of Adam.
        clip: Bound on the gradient's norm; 0 clips nothing.
        validate_every: Training steps between two validations.
        data: Folder of the data sets; the variable STEADYGRAD_DATA if not given.
        out: Folder of the grid: results.db, table.csv, table.tex, grid.html, grid.svg.
        executor: Processes of this machine, or tasks of a Ray cluster.
        address: Address of the Ray cluster; "auto" for the one that this machine belongs to.
        workers: Processes of this machine; one per core if not given.
        again: Repeat the runs that failed.
        compare: Two rows, separated by a comma, to compare by bootstrap over the seeds.
    """

    cells: str = "elman,lstm,gru"
    lengths: str = ""
    remedies: str = "none"
    seeds: int = 3
    hidden: int = 64
    layers: int = 1
    batch_size: int = 50
    updates: int = 4000
    learning_rate: float = 2e-3
    clip: float = 1.0
    validate_every: int = 100
    data: Path | None = None
    out: Path | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    workers: int | None = None
    again: bool = False
    compare: str = ""


def bench(
    subject: str,
    options: Annotated[BenchOptions, tyro.conf.arg(name="")] = BenchOptions(),  # frozen
    folder: Path | None = None,
    json: bool = False,
) -> int:
    """Train every combination of cells, remedies, lengths and seeds on a task, and compare them.

    Finished runs are kept in the folder --out; an interrupted grid is resumed by the same command.
    A run that diverges or fails is a result like any other.

    Args:
        subject: A task with its options (adding:form=le), several with a comma between, or a
            TOML file with the options of this command by name; "remedies" for the table of all
            remedies on two fixed problems, of which only --seeds and --json are options; "tasks"
            for what each task asks (options: --data, --json); "papers"
            for published numbers beside ours, as committed (options: --folder, --out, --json).
        options: Options of the grid.
        folder: Of "papers": where the results are; benchmarks/papers if not given.
        json: Print one JSON document at the end, and nothing else.
    """
    if subject == "papers":
        from steadygrad.cli.bench_papers import bench_papers

        return bench_papers(folder, options.out, json)
    if options.data is not None:  # worker processes inherit the environment
        from steadygrad.tasks.datasets import VARIABLE

        if not options.data.is_dir():
            raise InputError(f"--data {options.data}: no such folder")
        os.environ[VARIABLE] = str(options.data.resolve())
    if subject == "tasks":
        from steadygrad.cli.bench_tasks import bench_tasks

        return bench_tasks(json)
    if subject == "remedies":
        from steadygrad.cli.bench_remedies import SEEDS, bench_remedies

        return bench_remedies(SEEDS if options.seeds == BenchOptions.seeds else options.seeds, json)
    return _bench(subject, options, json)


def _bench(subject: str, options: BenchOptions, json: bool) -> int:
    """Run a grid and show its table."""
    from rich.console import Console

    from steadygrad.bench import run_grid
    from steadygrad.cli.bench_display import GridLines, GridLive, print_table
    from steadygrad.cli.bench_tasks import line, told
    from steadygrad.record import Results
    from steadygrad.report.grid_table import rows

    tasks, options = _read(subject, options)
    if not tasks:
        raise InputError(f"bench {subject!r:.40}: no task named; give one, or several with commas")
    grid = _grid(tasks, options)
    folder = options.out or Path("runs") / f"bench-{Path(subject).stem.replace(':', '-')}"
    _refuse_foreign(folder)
    trials = grid.trials()  # checks all runs before anything is written
    facts = [told(task) for task in dict.fromkeys(trial.task for trial in trials)]
    executor = _executor(options)
    console = Console(quiet=json)
    for fact in facts:
        console.print(line(fact), highlight=False, soft_wrap=True, markup=False)
    with Results(folder / "results.db") as results:
        if console.is_terminal and not json:
            with GridLive(console, len(trials)) as live:
                finished = run_grid(grid, results, executor, live.tell, again=options.again)
        else:
            tell = GridLines(console).tell
            finished = run_grid(grid, results, executor, tell, again=options.again)
    found = rows((vars(trial), result) for trial, result in finished)
    page = _write(found, f"{', '.join(tasks)}: {options.cells}", folder)
    differences = _compared(found, options.compare)
    if json:
        document = {
            "tasks": facts,
            "rows": [vars(row) | {"median": row.median} for row in found],
            "differences": differences,
            "folder": str(folder),
        }
        print(json_format.dumps(plain(document), indent=2, allow_nan=False))
    print_table(console, found, differences)
    console.print(f"table, page and picture: {page}", highlight=False, soft_wrap=True)
    return 0


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which a foreign file would be replaced."""
    from steadygrad.record.ownership import refuse_foreign
    from steadygrad.report.grid_table import as_csv, as_latex

    refuse_foreign(folder / name for name in ("results.db", "grid.svg", "grid.html"))
    for name, empty in ((CSV, as_csv(())), (TEX, as_latex(()))):
        path, start = folder / name, empty.encode()[:20]
        if path.is_symlink() or (path.exists() and path.read_bytes()[:20] != start):
            raise InputError(f"{path}: was not written by Steadygrad; give another --out")


def _write(found: "Sequence[Row]", title: str, folder: Path) -> Path:
    from steadygrad.report.grid_page import write_grid
    from steadygrad.report.grid_picture import write_picture
    from steadygrad.report.grid_table import as_csv, as_latex

    files.replace(folder / CSV, as_csv(found).encode())
    files.replace(folder / TEX, as_latex(found).encode())
    write_picture(found, folder / "grid.svg")
    return write_grid(found, title, folder / "grid.html")


def _read(subject: str, options: BenchOptions) -> tuple[tuple[str, ...], BenchOptions]:
    """Read tasks and options; the command line overrides a TOML file."""
    path = Path(subject)
    if path.suffix != ".toml":
        return tuple(_split(subject)), options
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read as TOML ({error})") from None
    names = {option.name for option in fields(BenchOptions)}
    tasks = given.pop("tasks", None)
    if not isinstance(tasks, list) or not tasks or not all(isinstance(t, str) for t in tasks):
        raise InputError(f'{path}: expected tasks = ["adding", ...], got {shown(tasks)}')
    hints = get_type_hints(BenchOptions)
    unknown = set(given) - names
    if unknown:
        raise InputError(
            f"{path}: no option {shown(sorted(unknown)[0])}; there are: {', '.join(sorted(names))}"
        )
    plain_options = BenchOptions()
    read: dict[str, Any] = {}
    for option in fields(BenchOptions):
        typed, default = getattr(options, option.name), getattr(plain_options, option.name)
        if option.name in given and typed == default:  # options of the command line take precedence
            value = given[option.name]
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            try:
                read[option.name] = fitted(hints[option.name], text, option.name)
            except Misfit as error:
                raise InputError(f"{path}: {error}") from None
    return tuple(tasks), replace(options, **read)


def _grid(tasks: Sequence[str], options: BenchOptions) -> "Grid":
    from steadygrad.bench import Grid, Trial

    shared = {f.name for f in fields(BenchOptions)} & {f.name for f in fields(Trial)}
    shared -= {"remedies"}
    try:
        lengths = tuple(int(n) for n in _split(options.lengths))
    except ValueError:
        raise InputError(
            f"--lengths {options.lengths}: expected whole numbers with commas between"
        ) from None
    sets = [() if s == "none" else tuple(s.split("+")) for s in _split(options.remedies)]
    return Grid(
        tasks=tuple(tasks),
        cells=tuple(_split(options.cells)),
        remedies=tuple(sets) or ((),),
        lengths=lengths,
        seeds=options.seeds,
        base=Trial(task=tasks[0], cell="lstm", **{n: getattr(options, n) for n in shared}),
    )


def _split(text: str) -> list[str]:
    """Split at commas, except within options (``name:a=1,b=2``)."""
    parts: list[str] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        if parts and ":" in parts[-1] and "=" in part and ":" not in part:
            parts[-1] += "," + part
        else:
            parts.append(part)
    return parts


def _executor(options: BenchOptions) -> "Executor":
    from steadygrad.bench import Local, OnRay

    if options.executor == "ray":
        return OnRay(options.address)
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: expected at least 1")
    return Local(options.workers)


def _compared(found: "Sequence[Row]", compare: str) -> list[dict[str, Any]]:
    if not compare:
        return []
    from steadygrad.report.bootstrap import difference

    names = _split(compare)
    labels = {row.label for row in found}
    if len(names) != 2 or not set(names) <= labels:
        raise InputError(f"--compare {compare}: expected two of: {'; '.join(sorted(labels))}")
    told = []
    for task in dict.fromkeys(row.task for row in found):
        by_label = {row.label: row for row in found if row.task == task}
        first, second = (by_label[name] for name in names)
        apart = difference(first.values, second.values)
        told.append(
            {"task": task, "first": names[0], "second": names[1], "unit": first.unit}
            | vars(apart)
            | {"beyond_chance": apart.is_beyond_chance}
        )
    return told
