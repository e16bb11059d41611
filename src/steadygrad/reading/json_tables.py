"""The table in a JSON document: a list of records, of rows, or columns, wherever it is nested."""

import json
from pathlib import Path
from typing import IO, Any

from steadygrad.errors import InputError
from steadygrad.reading.dates import looks_like_date

PLAIN = (str, int, float, bool, type(None))
LEAST = 2  # rows


def frame_of_json(pandas: Any, file: IO[bytes], path: Path) -> Any:
    """Return the one table of a document as a pandas frame.

    Args:
        pandas: The module.
        file: The document.
        path: For messages.

    Raises:
        InputError: It holds no table, or several.
    """
    try:
        value = json.loads(file.read().decode("utf-8-sig"))
    except ValueError as error:  # of its encoding, too
        raise InputError(f"{path}: this JSON cannot be read ({error})") from None
    found = _tables(pandas, value, "")
    if not found:
        raise InputError(
            f"{path}: no table in this JSON; expected a list of records, a list of rows, or lists"
            " of one length by name"
        )
    if len(found) > 1:
        told = ", ".join(name for name, _ in found[:5])
        raise InputError(
            f"{path}: {len(found)} tables in this JSON ({told}); save the one you mean as CSV"
        )
    return found[0][1]


def _tables(pandas: Any, value: Any, name: str) -> list[tuple[str, Any]]:
    """Return all tables at or below a value, by their place in the document."""
    frame = _table(pandas, value)
    if frame is not None:
        return [(name, frame)]
    if not isinstance(value, dict):
        return []
    return [t for key, own in value.items() for t in _tables(pandas, own, f"{name}/{key}")]


def _table(pandas: Any, value: Any) -> Any:
    if isinstance(value, list) and len(value) >= LEAST:
        return _of_list(pandas, value)
    if not isinstance(value, dict):
        return None
    if {"columns", "data"} <= value.keys() and _is_rows(value["data"]):
        return pandas.DataFrame(value["data"], columns=value["columns"])
    lists = {k: v for k, v in value.items() if isinstance(v, list) and _is_plain(v)}
    lengths = {len(v) for v in lists.values()}
    if lists and len(lengths) == 1 and lengths.pop() >= LEAST:
        return pandas.DataFrame(lists)
    inner = list(value.values())
    if len(inner) >= 1 and all(isinstance(v, dict) and _is_plain(v.values()) for v in inner):
        if len(inner) >= LEAST and all(map(looks_like_date, value)):
            frame = pandas.DataFrame.from_dict(value, orient="index")
            return frame.reset_index(names="date")
        keys = list(inner[0])
        if len(keys) >= LEAST and all(list(v) == keys for v in inner):  # as pandas writes frames
            frame = pandas.DataFrame(value)
            return frame.reset_index(names="date") if all(map(looks_like_date, keys)) else frame
    return None


def _of_list(pandas: Any, value: list[Any]) -> Any:
    if all(isinstance(v, dict) for v in value):
        return pandas.json_normalize(value)
    if not _is_rows(value):
        return None
    first, second = value[0], value[1]
    names = all(isinstance(v, str) for v in first) and len(set(first)) == len(first)
    has_names = names and not any(map(_is_data, first)) and any(map(_is_data, second))
    rows = value[1:] if has_names else value
    return pandas.DataFrame(rows, columns=first if has_names else range(len(first)))


def _is_data(value: Any) -> bool:
    """Whether a value is a number, or a text that reads as a number or a date."""
    if not isinstance(value, str):
        return True
    return looks_like_date(value) or value.strip().replace(".", "", 1).lstrip("-").isdigit()


def _is_rows(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(v, list) and _is_plain(v) for v in value):
        return False
    return len({len(row) for row in value}) == 1 and len(value[0]) > 0


def _is_plain(values: Any) -> bool:
    return all(isinstance(v, PLAIN) for v in values)
