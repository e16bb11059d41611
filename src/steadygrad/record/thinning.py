"""Thin out what lies far back in a long record, so that its size stays bounded.

The latest `RECENT` steps are kept as they were written. What is older is divided into stretches,
whose number is bounded: the longer the training, the longer a stretch. Of each stretch remain

- of a scalar its first value, the least, the greatest and the first NaN: a mean would hide the one
  step that exploded;
- of a heat map its first row;
- of a note its last version.

Which steps that are follows from the steps alone, and what remains of two stretches contains what
remains of both together: a training that was interrupted and resumed leaves the same record as one
that was not.
"""

import sqlite3

RECENT = 1 << 16  # steps
STRETCHES = {"scalar": 1 << 14, "cells": 1 << 9, "note": 1 << 9}
"""How many stretches at most, up to a factor of two."""

# In a query with one min() or max(), SQLite takes bare columns from the row that attains it.
_KEPT_SCALARS = " UNION ".join(
    f"SELECT name, {step} FROM scalar WHERE step < :end AND {which} GROUP BY name, step / :width"
    f" HAVING {having}"
    for step, which, having in (
        ("min(step)", "1", "1"),
        ("step", "typeof(value) != 'text'", "min(value) IS NOT NULL"),
        ("step", "typeof(value) != 'text'", "max(value) IS NOT NULL"),
        ("min(step)", "typeof(value) = 'text'", "1"),
    )
)
_KEPT_CELLS = "SELECT series, min(step) FROM cells WHERE step < :end GROUP BY series, step / :width"
_KEPT_NOTES = "SELECT key, max(step) FROM note WHERE step < :end GROUP BY key, step / :width"
_KEPT = {
    "scalar": ("name", "INTEGER", _KEPT_SCALARS),
    "cells": ("series", "INTEGER", _KEPT_CELLS),
    "note": ("key", "TEXT", _KEPT_NOTES),
}


def is_due(before: int, step: int) -> bool:
    """Whether a record that goes from step ``before`` to ``step`` is to be thinned out."""
    return step // RECENT > max(before, 0) // RECENT


def thin(db: sqlite3.Connection, step: int) -> None:
    """Thin out what lies far behind ``step``, within the open transaction."""
    end = (step // RECENT - 1) * RECENT
    if end <= 0:
        return
    for table, (key, kind, kept) in _KEPT.items():
        width = 1
        while end > width * STRETCHES[table]:
            width *= 2
        # With the types of the columns that it is compared with, or its key is not used.
        db.execute(
            f"CREATE TEMP TABLE kept (of {kind}, step INTEGER, PRIMARY KEY (of, step))"
            " WITHOUT ROWID"
        )
        limits = {"end": end, "width": width}
        db.execute(f"INSERT OR IGNORE INTO kept {kept}", limits)
        here = f"of = {table}.{key} AND kept.step = {table}.step"
        db.execute(
            f"DELETE FROM {table} WHERE step < :end"
            f" AND NOT EXISTS (SELECT 1 FROM kept WHERE {here})",
            {"end": end},
        )
        db.execute("DROP TABLE kept")
