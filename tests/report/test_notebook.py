"""What notebooks show: whole without a script, escaped, and the numbers of the object itself."""

import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import steadygrad as sg
from steadygrad.diagnosis import Watch
from steadygrad.diagnosis.repair import Repair
from steadygrad.errors import InputError
from steadygrad.record import Record, Results, read
from steadygrad.report.notebook import fragment
from tests.report.test_report import Page


def test_a_diagnosis_shows_its_verdict_figure_and_findings_and_plots_its_curve() -> None:
    torch.manual_seed(0)
    model = torch.nn.LSTM(2, 4)
    x = torch.randn(60, 3, 2)
    d = sg.diagnose(model, lambda: model(x)[0][-1].pow(2).mean(), lag=59)
    page = Page(d._repr_html_())
    assert "vanishes in the backward pass" in page.words and "Worth trying" in page.words
    (picture,) = [a for tag, a in page.elements if tag == "img"]
    assert picture["src"].startswith("data:image/svg+xml;base64,") and picture["alt"]
    assert not {"script", "style", "link"} & {tag for tag, _ in page.elements}
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    pyplot.switch_backend("agg")
    axes = d.plot()
    (curve, *_) = axes.get_lines()
    (flow,) = d.flow.values()
    np.testing.assert_allclose(np.asarray(curve.get_ydata(), dtype=float), flow.by_lag.log10_ratio)
    assert axes.get_title() == "vanishing"
    pyplot.close("all")


def test_repair_and_grid_show_tables(tmp_path: Path) -> None:
    found = Page(Repair("healthy", (), ("gated",), None)._repr_html_())
    assert "healthy" in found.words and "gated" in found.words
    with Results(tmp_path / "results.db") as results:
        assert "No run of this grid" in results._repr_html_()
        figures = {"unit": "loss", "figures": {"loss": 0.5}, "curve": [(1, 0.9), (2, 0.5)]}
        trial = {"task": "<b>adding", "cell": "lstm", "remedies": []}
        results.add("k", trial, figures | {"status": "solved", "seconds": 1.0})
        text = results._repr_html_()
    assert "<b>adding" not in text and "&lt;b&gt;adding" in text and "lstm" in text


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    with Record.create(tmp_path / "r.db", config={}) as rec:
        rec.row(0, "log10_grad", attack, np.linspace(-3, 0, 5))
        rec.finding(0, {"fault": attack, "text": attack, "patch": attack, "remedies": [attack]})
        rec.note("layers", [{"name": attack, "cell": attack}])
        rec.note("verdict", attack)
    with read(tmp_path / "r.db") as run:
        assert not re.search("<script", fragment(run))


# While it trains --------------------------------------------------------------------------------


def watched(steps: int, show: float | None) -> Watch:
    torch.manual_seed(0)
    model = torch.nn.LSTM(1, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    w = sg.watch(model, optimizer, lag=29, every=1)
    if show is not None:
        w.show(every=show)
    for _ in range(steps):
        loss = model(torch.randn(30, 2, 1))[0][-1].pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(0.01)
    w.close()
    return w


class Cell:
    """Stands for a notebook: what its output has shown, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, is_notebook: bool = True) -> None:
        self.shown: list[str] = []
        self.outputs = 0
        shell = SimpleNamespace(kernel=object() if is_notebook else None)
        kit = SimpleNamespace(HTML=str, display=self.display)
        ipython = SimpleNamespace(get_ipython=lambda: shell, display=kit)
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", kit)

    def display(self, text: str, display_id: bool) -> SimpleNamespace:
        assert display_id
        self.outputs += 1
        self.shown.append(text)
        return SimpleNamespace(update=self.shown.append)


def test_one_output_follows_the_training_and_ends_with_what_the_watch_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("steadygrad.diagnosis.watching.notebook._SHARE", 1.0)
    cell = Cell(monkeypatch)
    w = watched(10, show=1e-3)
    assert cell.outputs == 1 and len(cell.shown) > 3
    pages = [Page(text) for text in cell.shown]
    assert "no step of the training has been measured" in pages[0].words
    assert "vanishes in the backward pass" in pages[-1].words
    assert w.findings[0].patch is not None and w.findings[0].patch.split()[0] in pages[-1].words
    assert not any(tag == "script" for page in pages for tag, _ in page.elements)
    assert "data:image/svg+xml" in cell.shown[-1]


def test_drawing_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(monkeypatch)
    watched(20, show=1e-3)
    assert len(cell.shown) <= 5  # each takes longer than a step, so most steps draw nothing


def test_without_a_notebook_it_is_refused_and_names_what_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for is_notebook in (False, None):
        if is_notebook is None:
            monkeypatch.setitem(sys.modules, "IPython", None)
        else:
            Cell(monkeypatch, is_notebook)
        with pytest.raises(InputError, match="no notebook is running; serve"):
            watched(0, show=1.0)
    Cell(monkeypatch)
    with pytest.raises(InputError, match="every: expected seconds"):
        watched(0, show=0.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own
def test_it_is_redrawn_in_place_in_a_real_notebook() -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    code = """
import torch
import steadygrad as sg
model = torch.nn.LSTM(1, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
w = sg.watch(model, optimizer, lag=29, every=1)
w.show(every=0.01)
for _ in range(5):
    loss = model(torch.randn(30, 2, 1))[0][-1].pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
w.close()
"""
    v4 = nbformat.v4
    book = v4.new_notebook(cells=[v4.new_code_cell(code), v4.new_code_cell("w")])
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    (live,), (still,) = (
        [o for o in cell.outputs if "text/html" in o.get("data", {})] for cell in book.cells
    )
    for shown in (live, still):
        assert "vanishes in the backward pass" in shown["data"]["text/html"]
