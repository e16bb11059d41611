"""CONTRIBUTING's walk to a new quantity, taken to the letter; and what every quantity owes."""

import ast
import json
from pathlib import Path

import pytest

from docs import quantities
from steadygrad import flow
from steadygrad.flow import QUANTITIES, Quantity
from steadygrad.flow.quantity import at_look
from tests.helpers.walk import ask, walked

MODEL = """
import torch


def make():
    torch.manual_seed(0)
    model, x = torch.nn.RNN(2, 8), torch.randn(30, 4, 2)
    return model, lambda: model(x)[0][-1].square().mean()
"""


def test_no_quantity_is_left_out() -> None:
    room = Path(flow.__file__)
    written = {path.removesuffix(".py") for path in quantities.homes().values()}
    lines = ast.parse(room.read_text(encoding="utf-8")).body
    imported = {
        node.module.rpartition(".")[2]
        for node in lines
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steadygrad.flow.")
        if node.module
    }
    assert written <= imported, f"not imported in flow/__init__.py: {sorted(written - imported)}"
    assert set(quantities.homes()) == set(QUANTITIES)


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=list(QUANTITIES))
def test_every_quantity_states_what_it_is(quantity: Quantity) -> None:
    assert quantity.unit and quantity.meaning.endswith(".") and "\n" not in quantity.meaning
    assert quantity.meaning[0].isupper() and len(quantity.meaning) < 100
    assert not quantity.beside or quantity.beside in QUANTITIES
    told = quantity.to_record()
    assert told["unit"] == quantity.unit and told["title"]


def test_of_no_layer_nothing_is_taken() -> None:
    assert at_look({}) == {}


def test_the_page_is_what_the_code_says() -> None:
    written = quantities.PAGE.read_text(encoding="utf-8")
    assert written == quantities.page(), "run: make docs"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walked("Add a quantity", "flow", tmp_path_factory.mktemp("walk"))


def test_it_is_measured_drawn_explained_and_on_the_page(source: Path, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    drawn = tmp_path / "look.html"
    target = (f"{tmp_path / 'model.py'}:make", "--lag", "29", "--out", str(drawn), "--json")
    measured, told, recorded, page = ask(
        source,
        ("diagnose", *target),
        ("explain", "reach"),
        ("explain", "reach", "--json"),
        ("docs", "quantities"),
    )
    assert measured.code in (0, 1), measured.errors
    found = json.loads(measured.output)
    assert found["quantities"]["reach"] == pytest.approx(found["quantities"]["horizon"] / 29)
    text = drawn.read_text(encoding="utf-8")
    assert "Share of the measured steps that the gradient reaches." in text and ">reach<" in text
    assert told.output.startswith("reach (1): Share of the measured steps")
    assert json.loads(recorded.output)["unit"] == "1"
    assert json.loads(recorded.output)["title"] == "Reach"
    line = "| `reach` | 1 | Share of the measured steps that the gradient reaches. | yes |"
    assert line in page.output
