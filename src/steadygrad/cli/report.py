"""``steadygrad report RUN.db``: draw the record of a run again."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from steadygrad.errors import InputError


def report(runs: tuple[Path, ...], out: Path | None = None) -> int:
    """Draw one record, or several side by side, as one HTML file that needs nothing else.

    Args:
        runs: Records (run.db) of runs, finished or not: before, tried, after.
        out: The HTML file; report.html beside the first record if not given.
    """
    if not runs:
        raise InputError("report: no record given; expected at least one run.db")
    for run in runs:
        if not run.name:  # a root, or no name at all
            raise InputError(f"report {str(run)!r}: expected the record of a run (run.db)")
    print(write_report(runs, out or runs[0].with_name("report.html")))
    return 0


def write_report(records: Sequence[Path], out: Path) -> Path:
    """Draw ``records`` into ``out``, replacing in one move what stands there.

    Raises:
        InputError: ``out`` cannot be written, or is a file that Steadygrad did not write.
        RecordError: A record cannot be read.
    """
    from steadygrad.record import read
    from steadygrad.record.ownership import refuse_foreign
    from steadygrad.report import write

    with contextlib.ExitStack() as stack:
        opened = [read(path) for path in records]
        for run in opened:
            stack.callback(run.close)
        refuse_foreign([out], "page")
        try:
            return write(opened, out)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError):
                raise InputError(
                    f"{out}: cannot be written ({error.strerror}); give another --out"
                ) from None
            raise InputError(str(error)) from None
