"""Report pages in a browser: axe-core, no overflow, anchors, print, PDF; and figures on white."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from steadygrad import report
from steadygrad.faults import known
from steadygrad.record import Record, read
from steadygrad.report import grid_page, grid_table, line_styles, pdf
from steadygrad.report.median_band import spread_line
from steadygrad.report.page import html
from tests.browser import PROGRAM, axe_findings, chromium, troubles_of
from tests.report.test_report import SCORES, decay

PAPER = {"light": "#fbfaf7", "dark": "#16181b"}


def a_run(path: Path, slope: float, verdict: str, seed: int = 0) -> Path:
    """A record with everything that a page can show."""
    with Record.create(path, config={"seed": seed, "hidden": 8}) as rec:
        for step in range(6):
            rec.row(step, "log10_grad", "lstm", decay(40, slope * (1 + seed / 8)))
            rec.row(step, "log10_grad", "lstm", decay(40, slope) - 1, state="c")
            rec.row(step, "gate:forget", "lstm", [0.1])
            rec.scalars(step, {"loss": 2.0 / (step + 1 + seed), "grad_norm": 1.0})
        rec.event(3, "rollback", "went back", number=1)
        if verdict == "vanishing":
            text = "The gradient in lstm vanishes."
            found = {"fault": verdict, "layer": "lstm", "text": text, "patch": "m = sg.LSTM(1, 8)"}
            rec.finding(1, found | {"evidence": {"log10_ratio": -9.0}, "remedies": ["gated"]})
        rec.note("lag", 30)
        rec.note("verdict", verdict)
        rec.note("scores", SCORES)
        rec.note("thresholds", {"vanishing": 1e-4})
    return path


def a_grid() -> list[grid_table.Row]:
    def run(cell: str, seed: int) -> grid_table.Run:
        unit, better = "squared error", "lower"
        trial = {"task": "adding", "cell": cell, "remedies": [], "seed": seed}
        curve = [(k, 0.2 / (k + seed + 1)) for k in range(1, 9)]
        result = {"status": "solved", "unit": unit, "better": better, "seconds": 1.0}
        result |= {"figures": {unit: curve[-1][1]}, "curve": curve, "solved_at": 7}
        return trial, result | {"without_memory": 0.17, "solved_if": 0.01}

    return grid_table.rows(run(cell, s) for cell in ("elman", "a-cell-of-mine") for s in range(3))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    before = read(a_run(folder / "before.db", -0.5, "vanishing"))
    after = read(a_run(folder / "after.db", -1 / 64, "healthy"))
    return {
        "one": report.write(before, folder / "one.html"),
        "two": report.write([before, after], folder / "two.html"),
        "grid": grid_page.write_grid(a_grid(), "a grid", folder / "grid.html"),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("name", ["one", "two", "grid"])
def test_a_page_is_accessible_and_clips_nothing(
    name: str, width: int, scheme: str, browser: Any, pages: dict[str, Path]
) -> None:
    viewport = {"width": width, "height": 900}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    troubles = troubles_of(page)
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    clipped = (
        "[...document.querySelectorAll('.scroll')].filter((d) => d.scrollWidth > d.clientWidth)"
    )
    assert name != "grid" or page.evaluate(f"{clipped}.length") == 0
    assert axe_findings(page) == []
    for link in page.query_selector_all("a[href^='#']"):
        assert page.query_selector(f"[id='{link.get_attribute('href')[1:]}']") is not None
    assert troubles == []
    context.close()


@pytest.mark.slow
def test_print_is_on_white_with_everything_shown(browser: Any, pages: dict[str, Path]) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(pages["one"].as_uri())
    hidden = "details > :not(summary)"
    shown = f"[...document.querySelectorAll('{hidden}')].map((e) => e.checkVisibility())"
    assert set(page.evaluate(shown)) == {False}
    page.emulate_media(media="print")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    assert set(page.evaluate(shown)) == {True}
    context.close()


@pytest.mark.skipif(PROGRAM is None, reason="no chromium here; install it or set its variable")
@pytest.mark.slow
def test_a_pdf_is_printed_and_may_be_replaced(tmp_path: Path) -> None:
    run = read(a_run(tmp_path / "run.db", -0.5, "vanishing"))
    from steadygrad.record.ownership import kind_of

    for write, name in ((report.write, "page.pdf"), (report.picture, "figure.pdf")):
        path = write(run, tmp_path / name)
        content = path.read_bytes()
        assert content.startswith(b"%PDF-") and kind_of(path) == "page"
        sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
        assert len(sizes) == 1 if name == "figure.pdf" else len(sizes) > 1


def test_a_pdf_without_a_browser_is_refused_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pdf.VARIABLE, str(tmp_path / "none"))
    run = read(a_run(tmp_path / "run.db", -0.5, "vanishing"))
    for write in (report.write, report.picture):
        with pytest.raises(ValueError, match="none was found; install one"):
            write(run, tmp_path / "page.pdf")
    with pytest.raises(ValueError, match=r"is written as \.html or \.pdf, not '\.docx'"):
        report.write(run, tmp_path / "page.docx")
    assert not list(tmp_path.glob("page*"))


def _light(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((_light(one), _light(other)))
    return (high + 0.05) / (low + 0.05)


def test_marks_have_three_to_one_and_no_two_lines_differ_by_colour_alone(tmp_path: Path) -> None:
    light, dark = PAPER["light"], PAPER["dark"]
    for on_light, on_dark in line_styles.COLOURS.values():
        assert contrast(on_light, light) >= 3 and contrast(on_dark, dark) >= 3
    for fault in known().values():
        assert contrast(fault.colour, light) >= 3 and contrast(fault.colour, dark) >= 3
    page = html(read(a_run(tmp_path / "run.db", -0.5, "vanishing")))
    roots = re.findall(r"--(naive|bad|zero): (#\w{6})", page)
    assert len(roots) == 9  # light, dark, print
    for (_, colour), paper in zip(roots, 3 * [light] + 3 * [dark] + 3 * ["#ffffff"], strict=True):
        assert contrast(colour, paper) >= 3
    assert len({*line_styles.DASHES.values()}) == len(line_styles.DASHES) == len(line_styles.STYLES)


def test_a_figure_of_several_seeds_is_a_median_with_a_band_on_white(tmp_path: Path) -> None:
    runs = [read(a_run(tmp_path / f"{s}.db", -0.25, "vanishing", seed=s)) for s in range(3)]
    tree = ElementTree.parse(report.picture(runs, tmp_path / "f.svg"))
    shapes = [(e.tag.rpartition("}")[2], e.attrib) for e in tree.iter()]
    assert next(a["fill"] for tag, a in shapes if tag == "rect") == "#fff"
    assert sum(a.get("class") == "band main" for _, a in shapes) == 2  # of the loss, and by lag
    assert sum(a.get("class") == "line main" for _, a in shapes) == 3  # and one in the key
    single = ElementTree.parse(report.picture(runs[0], tmp_path / "g.svg"))
    assert any(e.attrib.get("class") == "band main" for e in single.iter())


def test_a_spread_line_is_the_median_between_lowest_and_highest() -> None:
    x = np.arange(4.0)
    curves = [(x, x), (x, 2 * x), (x[:2], 3 * x[:2])]
    held = spread_line("a", curves, "main")
    np.testing.assert_array_equal(held.y, [0, 2, 3, 3])  # the third stays at 3
    ended = spread_line("a", curves, "main", holds=False)
    np.testing.assert_array_equal(ended.y, [0, 2, 3, 4.5])
    assert ended.band is not None
    np.testing.assert_array_equal(ended.band, [[0, 1, 2, 3], [0, 3, 4, 6]])


def test_the_grid_s_page_draws_each_curve_once() -> None:
    page = grid_page.grid_html(a_grid(), "t")
    titles = re.findall(r"<strong>([^<]*)</strong>", page)
    assert titles == ["How it was learnt", "Every seed"]
    data = json.loads(re.findall(r'data-plot="([^"]*)"', page)[0].replace("&quot;", '"'))
    assert [line["n"] for line in data["lines"]] == ["elman", "a-cell-of-mine"]
    assert page.count("data-plot=") == 1 and "image/svg+xml" not in page
