"""``steadygrad compare A B``: find where two runs differ."""

import json as json_format
from pathlib import Path

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError


def compare(
    a: Path, b: Path, tolerance: float = 1e-5, out: Path | None = None, json: bool = False
) -> int:
    """Find the first training step, layer, gate and time step at which two runs part.

    Exit code 0: no difference in what both have measured; 1: they differ; 2: nothing can be
    compared, or wrong use.

    Args:
        a: The record of a run (run.db), or its folder.
        b: The record or folder of another run.
        tolerance: Relative difference up to which two numbers count as the same.
        out: Write a page here, .html or .pdf.
        json: Print one JSON document and nothing else.
    """
    from steadygrad.cli.report import check_page
    from steadygrad.record.ownership import refuse_foreign
    from steadygrad.report.compare_runs import compare as compare_runs

    if out is not None:
        check_page(out)
        refuse_foreign([out], "page")
    try:
        found = compare_runs(a, b, tolerance=tolerance)
    except ValueError as error:
        raise InputError(f"--{str(error).removeprefix('compare: ')}") from None
    if not found.steps:
        raise InputError(f"{a}, {b}: {found.sentence}")
    page = None
    if out is not None:
        try:
            page = found.save(out)
        except (OSError, ValueError) as error:
            raise InputError(f"{out}: cannot be written ({error}); give another --out") from None
    if json:
        document = found.to_json() | ({"page": page} if page else {})
        print(json_format.dumps(plain(document), indent=2, allow_nan=False))
    else:
        print(found)
        if page:
            print(f"page: {page}")
    return int(found.first is not None)
