"""The page of dependencies lists what pyproject.toml requires, as it is written there."""

from docs import dependencies


def test_every_requirement_has_its_row() -> None:
    written = dependencies.PAGE.read_text(encoding="utf-8")
    for extra, requirement in dependencies.requirements():
        start = dependencies.row(extra, requirement).split(" |")[:2]
        assert " |".join(start) in written, f"run python -m docs.dependencies: {requirement}"
