"""The page of quantities, from what each declares: ``python -m docs.quantities``."""

import ast
from pathlib import Path

from steadygrad import flow
from steadygrad.flow import QUANTITIES

PAGE = Path(__file__).with_suffix(".md")
TOP = """\
# Quantities

<!-- Made by `python -m docs.quantities`; edit the files in src/steadygrad/flow instead. -->

Everything that is measured, by its name in records and in `--json`. A star stands for a number or
the name of a gate. "Each look" says that a watch and a diagnosis take it by themselves; the others
are measured at every step, drawn as heat maps, or by the function in their file. Equations, shapes
and sources stand in the docstrings there.

| quantity | unit | what it is | each look | file |
|---|---|---|---|---|
"""


def homes() -> dict[str, str]:
    """File of each quantity, by name: where it is declared."""
    found: dict[str, str] = {}
    for path in sorted(Path(flow.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if is_call and node.func.id == "Quantity" and node.args:  # type: ignore[union-attr]
                found[ast.literal_eval(node.args[0])] = path.name  # type: ignore[union-attr]
    return found


def page() -> str:
    """The whole page."""
    files = homes()
    rows = [
        f"| `{name}` | {quantity.unit} | {quantity.meaning} "
        f"| {'yes' if quantity.at_look else ''} | `{files[name]}` |"
        for name, quantity in QUANTITIES.items()
    ]
    return TOP + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(QUANTITIES)} quantities")
