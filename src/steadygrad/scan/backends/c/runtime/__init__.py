"""C that every kernel contains, as headers: matrix products, functions of a real, threads.

The headers include one another as C has it, for the reader, for clang-format and for an editor. A
kernel is still one text, and nothing else has to be found when it is compiled: `inlined` puts in
place of every ``#include "..."`` what stands in that file.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

ROOT = "kernel.h"
"""The header that includes all others."""
INCLUDE = re.compile(r'#include "(.+)"')


def inlined(printed: Mapping[str, str], root: str = ROOT) -> str:
    """The text of a header and of all that it includes, each file once.

    Args:
        printed: Files that are included, but are no files of this folder: name to text.
        root: The header to begin with.
    """
    done: set[str] = set()

    def lines(name: str) -> list[str]:
        if name in done:
            return []
        done.add(name)
        found: list[str] = []
        for line in (printed[name] if name in printed else _text(name)).splitlines():
            include = INCLUDE.fullmatch(line)
            if include:
                found += lines(include[1])
            elif line != "#pragma once":  # there is but one file, and each is in it once
                found.append(line)
        return found

    return "\n".join(lines(root)) + "\n"


@lru_cache
def _text(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
