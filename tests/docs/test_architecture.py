"""The map of the rooms is the import contract, and the contract has every room that exists."""

from docs import architecture


def test_the_contract_names_every_room_and_no_other() -> None:
    named = [name for row in architecture.layers() for name in row]
    assert sorted(named) == sorted(architecture.present())


def test_the_page_is_the_one_that_the_contract_gives() -> None:
    written = architecture.PAGE.read_text(encoding="utf-8")
    assert written == architecture.page(), "run python -m docs.architecture"


def test_every_room_says_what_is_in_it() -> None:
    assert all(architecture.room(name).purpose for name in architecture.present())
