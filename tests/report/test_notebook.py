"""What notebooks show: whole without a script, escaped, and the numbers of the object itself."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import steadygrad as sg
from steadygrad.diagnosis.repair import Repair
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
