"""Results as lines of JSON, one dataclass each: what is in the file is not run again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def kept(path: Path, kind: type[Result]) -> list[Result]:
    """The results in a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [_read(json.loads(line), kind) for line in file]


def append(path: Path, result: Any) -> None:
    """Add a dataclass."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def _read(values: dict[str, Any], kind: type[Result]) -> Result:
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**plain)
