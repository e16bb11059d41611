"""The page of dependencies, from pyproject.toml and what is installed.

``python -m docs.dependencies`` prints it.

The licences are those that the installed packages state of themselves.
"""

import platform
import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).with_suffix(".md")
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
TOP = """\
# Dependencies

<!-- Made by `python -m docs.dependencies`; edit pyproject.toml instead. -->

What is installed beside Steadygrad, by extra, and under which licence its authors give it. The
versions are those of the last whole run of the tests. `pip-audit` asks the public list of known
weaknesses about what is installed; it needs the network, and is no part of the tests.

| extra | requirement | tested | licence |
|---|---|---|---|
"""
FIELDS = ("License-Expression", "License", "Classifier")
KNOWN = (  # texts of whole licences, by what they begin with or say
    ("apache", "Apache-2.0"),
    ("bsd 3", "BSD-3-Clause"),
    ("3-clause bsd", "BSD-3-Clause"),
    ("bsd", "BSD"),
    ("mit", "MIT"),
    ("mozilla", "MPL-2.0"),
    ("redistribution and use in source", "BSD"),
)


def requirements() -> list[tuple[str, Requirement]]:
    """Every requirement with its extra; that of the package itself has none."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    found = [("", Requirement(text)) for text in project["dependencies"]]
    for extra, texts in project["optional-dependencies"].items():
        found += [(extra, Requirement(text)) for text in texts]
    return [(extra, r) for extra, r in found if r.name != project["name"]]


def licence_of(package: Distribution) -> str:
    """As the package states it: an SPDX expression, a classifier, or the start of its text."""
    said = {name: package.metadata.get_all(name) or [""] for name in FIELDS}
    if said[FIELDS[0]][0]:
        return said[FIELDS[0]][0]
    classes = said["Classifier"]
    named = [c.rpartition(" :: ")[2] for c in classes if c.startswith("License ::")]
    named = [n for n in named if n != "OSI Approved"]
    text = " ".join(said["License"][0].split())
    for start, name in KNOWN:
        if any(start in t.lower()[:200] for t in (text, *named) if t):
            return name
    return ", ".join(named) or text[:40] or "not stated"


def row(extra: str, requirement: Requirement) -> str:
    """One line of the table."""
    plain = re.sub(r"\s*;.*", "", str(requirement))
    try:
        package = distribution(requirement.name)
    except PackageNotFoundError:
        return f"| {extra} | `{plain}` | not installed | |"
    return f"| {extra} | `{plain}` | {package.version} | {licence_of(package)} |"


def page() -> str:
    """The whole page."""
    rows = [row(extra, requirement) for extra, requirement in requirements()]
    return TOP + "\n".join(rows) + f"\n\nPython {platform.python_version()}.\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(requirements())} requirements")
