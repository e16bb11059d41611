"""The report says what the record holds, whatever is missing, and nothing in it can act."""

import base64
import hashlib
import itertools
import json
import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadygrad import report
from steadygrad.record import Record, Run, read
from steadygrad.report import figures, palette, sentence
from steadygrad.report.axis import Axis, around
from steadygrad.report.chapter import chapter
from steadygrad.report.downsample import thinned
from steadygrad.report.heat import Heat
from steadygrad.report.page import put

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page taken apart by a parser that is not ours: elements, attributes, texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data.replace("\u00a0", " ")))

    def inside(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]

    @property
    def words(self) -> str:
        shown = (text for tag, text in self.texts if tag not in ("style", "script"))
        return " ".join(" ".join(shown).split())


def make(
    path: Path,
    *,
    rows: Mapping[int, Sequence[float] | np.ndarray] | None = None,
    scalars: Mapping[int, Mapping[str, float]] | None = None,
    notes: Mapping[str, Any] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    layer: str = "lstm",
) -> Run:
    with Record.create(path, config={"seed": 0}) as rec:
        for step, values in (rows or {}).items():
            rec.row(step, "log10_grad", layer, np.ma.asarray(values))
        for step, values in (scalars or {}).items():
            rec.scalars(step, values)
        for key, value in (notes or {}).items():
            rec.note(key, value)
        for finding in findings:
            rec.finding(0, finding)
    return read(path)


def decay(steps: int, slope: float) -> np.ndarray:
    return slope * np.arange(steps - 1, -1, -1.0)


SCORES = [
    {"name": "elman", "value": 0.5, "unit": "accuracy", "better": "higher", "ours": True},
    {"name": "guess", "value": 0.25, "unit": "accuracy", "better": "higher", "ours": False},
]


# What is said -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slope", "lag", "said"),
    [
        # -0.375 k < -4 first at k = 11; multiples of 1/8 are exact in float16.
        (-0.375, 63, "after 11 steps less than 1/10,000 of it is left; the lag given is 63."),
        (-0.5, 20, "after 9 steps less than 1/10,000 of it is left; the lag given is 20."),
        (-8.0, 5, "after 1 step less than 1/10,000 of it is left; the lag given is 5."),
    ],
)
def test_the_headline_counts_the_steps_of_a_vanishing_gradient(
    tmp_path: Path, slope: float, lag: int, said: str
) -> None:
    run = make(tmp_path / "r.db", rows={0: decay(64, slope)}, notes={"lag": lag})
    (headline,) = Page(report.html(run)).inside("h1")
    assert headline == f"The gradient vanishes in the backward pass: {said}"


def test_the_run_s_own_threshold_and_horizon_go_before(tmp_path: Path) -> None:
    notes = {"lag": 63, "verdict": "vanishing", "thresholds": {"vanishing": 1e-2}}
    run = make(tmp_path / "a.db", rows={0: decay(64, -0.5)}, notes=notes)
    assert "after 5 steps less than 1/100 of" in sentence.verdict(chapter(run, ""))
    told = notes | {"layers": [{"name": "lstm", "horizon": 7}, {"name": "b", "horizon": 9}]}
    run = make(tmp_path / "b.db", rows={0: decay(64, -0.5)}, notes=told)
    assert "after 8 steps less than 1/100 of" in sentence.verdict(chapter(run, ""))


def test_the_measured_ratio_by_lag_goes_before_the_rows(tmp_path: Path) -> None:
    with Record.create(tmp_path / "r.db", config={}) as rec:
        rec.note("lag", 6)
        rec.row(0, "log10_grad", "lstm", np.zeros(9))  # a loss at each step fills the rows
        rec.row(0, "log10_ratio", "lstm", -1.0 * np.arange(9))
    told = chapter(read(tmp_path / "r.db"), "")
    assert (told.horizon, told.at_lag) == (4, (6, -6.0))


def test_a_reversed_layer_is_read_from_its_own_end(tmp_path: Path) -> None:
    run = make(tmp_path / "r.db", rows={0: decay(9, -1.0)[::-1]}, layer="lstm.l0_reverse")
    assert chapter(run, "").horizon == 4


def test_a_layer_that_no_gradient_enters_is_not_the_headline_s(tmp_path: Path) -> None:
    with Record.create(tmp_path / "r.db", config={}) as rec:
        rec.note("lag", 6)
        rec.row(0, "log10_grad", "idle", np.full(9, -np.inf))
        rec.row(0, "log10_grad", "busy", decay(9, -1.0))
        rec.row(0, "log10_grad", "easy", decay(9, -0.125))
    main = chapter(read(tmp_path / "r.db"), "").main
    assert main is not None and main.layer == "busy"


@pytest.mark.parametrize(
    ("verdict", "rows", "said"),
    [
        ("healthy", decay(9, 0.0), "Nothing is wrong: 8 steps back, 100 % of the gradient is left"),
        (
            "healthy",
            decay(9, 0.0625),
            "8 steps back the gradient is 3.2 times as large as where it starts",
        ),
        ("exploding", decay(9, 1.0), "over 8 steps it grows 10⁸-fold"),
        ("nonfinite", np.full(9, np.nan), "Training broke down"),
        ("saturated", decay(9, -0.125), "Gates are stuck; 8 steps back, 10 %"),
        ("", decay(9, -0.125), "No fault was named; 8 steps back, 10 % of the gradient is left."),
        ("", None, "was not recorded"),
    ],
)
def test_each_verdict_has_its_sentence(
    tmp_path: Path, verdict: str, rows: np.ndarray | None, said: str
) -> None:
    given_rows = {} if rows is None else {0: rows}
    run = make(tmp_path / "r.db", rows=given_rows, notes={"verdict": verdict} if verdict else {})
    assert said in sentence.verdict(chapter(run, ""))


def test_before_and_after_are_told_with_what_changed_and_what_it_did(tmp_path: Path) -> None:
    remedy = {"name": "orthogonal-init", "options": {"gain": 1.5}, "changed": "rnn.weight_hh_l0"}
    before = make(
        tmp_path / "a.db",
        rows={0: decay(64, -0.375)},
        notes={"lag": 63, "verdict": "vanishing", "scores": SCORES},
    )
    after = make(
        tmp_path / "b.db",
        rows={0: decay(64, -1 / 64)},
        notes={
            "lag": 63,
            "verdict": "healthy",
            "scores": [SCORES[0] | {"value": 0.9}],
            "remedies": [remedy],
        },
    )
    page = Page(report.html([before, after]))
    (headline,) = page.inside("title")
    # 10 ** (-63 / 64) = 10.4 %, and -0.375 * 63 = -23.6 is a power of ten of -24.
    assert (
        "Repaired: 63 steps back, 10 % of the gradient is left (before: 10⁻²⁴ of it)." in headline
    )
    for words in (
        "Accuracy: from 50.0 % to 90.0 %.",
        "orthogonal-init (gain=1.5) : rnn.weight_hh_l0",
        "10 steps",
        "≥ 63 steps",
        "guess",
    ):
        assert words in page.words
    assert len([a for _, a in page.elements if a.get("class") == "bar naive"]) == 1


def test_bars_are_as_long_as_their_scores(tmp_path: Path) -> None:
    page = Page(report.html(make(tmp_path / "r.db", notes={"scores": SCORES})))
    widths = [a["style"] for _, a in page.elements if a.get("class", "").startswith("bar ")]
    assert widths == ["width:100.00%", "width:50.00%"]
    assert "higher is better" in page.words


def test_findings_show_evidence_threshold_and_remedies(tmp_path: Path) -> None:
    finding = {
        "fault": "saturated",
        "layer": "gru",
        "gate": "reset",
        "lag": None,
        "step": 120,
        "evidence": {"dead_share": 0.75, "threshold": 0.5, "log10_ratio": -math.inf},
        "remedies": ["forget-bias:value=1", "clip-norm"],
        "text": "Three of four units are stuck.",
    }
    page = Page(report.html(make(tmp_path / "r.db", findings=[finding])))
    for words in (
        "layer gru, reset gate, since training step 120",
        "Three of four units are stuck.",
        "dead share 0.75",
        "threshold 0.5",
        "log10 ratio \u2212∞ (nothing)",
    ):
        assert words in page.words
    assert page.inside("code")[:2] == ["forget-bias:value=1", "clip-norm"]


def test_a_fault_that_comes_and_goes_is_told_once(tmp_path: Path) -> None:
    stuck = {"fault": "saturated", "layer": "lstm", "gate": "input"}
    shares = {100: 0.5, 300: 0.875, 700: 0.75}
    seen = [stuck | {"step": k, "evidence": {"dead_share": v}} for k, v in shares.items()]
    other = stuck | {"gate": "output", "step": 5, "evidence": {"dead_share": 0.25}}
    notes = {"verdict": "saturated"}
    run = make(tmp_path / "r.db", findings=[*seen, other], notes=notes, rows={0: decay(9, -0.125)})
    page = Page(report.html(run))
    assert [a["class"] for tag, a in page.elements if tag == "article"] == ["finding"] * 2
    assert "input gate, since training step 100, found 3 times" in page.words
    assert "dead share 0.75" in page.words and "0.875" not in page.words
    assert page.inside("h1") == [
        "75 % of the units of the input gate in layer lstm are stuck and pass no gradient on; "
        "8 steps back, 10 % of the gradient is left."
    ]


@pytest.mark.parametrize(
    ("log10", "said"),
    [
        (0.0, "100 %"),
        (-1.0, "10 %"),
        (-0.5, "32 %"),
        (-3.0, "1/1,000"),
        (-4.0, "1/10,000"),
        (-5.3, "1/200,000"),
        (-23.4, "10⁻²³"),
        (-math.inf, "nothing"),
        (math.inf, "∞"),
        (math.nan, "NaN"),
        (0.5, "3.2 times as much"),
        (3.0, "1,000 times as much"),
        (12.0, "10¹² times as much"),
    ],
)
def test_shares_in_words(log10: float, said: str) -> None:
    assert figures.share(log10) == said


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.9543, "next-symbol accuracy", "95.4 % next-symbol accuracy"),
        (95.43, "% correct", "95.4 % correct"),
        (1.25, "RMSE", "1.25 RMSE"),
        (math.nan, "% correct", "NaN % correct"),
    ],
)
def test_scores_carry_their_unit_once(value: float, unit: str, said: str) -> None:
    assert figures.scored(value, unit) == said


@given(st.floats(-1e308, 1e308))
def test_a_plain_number_reads_back_to_three_digits(value: float) -> None:
    text = figures.plain(value)
    back = text.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻\u2212", "0123456789--")).replace(",", "")
    mantissa, _, exponent = back.partition("\u00d710")
    number = float(f"{mantissa}e{exponent}") if exponent else float(mantissa)
    assert number == pytest.approx(value, rel=5.1e-3, abs=0)


# Drawings ---------------------------------------------------------------------------------------


def pixels(address: str) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Decode an indexed PNG of a data address by the format's own rules."""
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            kind + body
        )
        chunks[kind] = body
        at += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    colours = chunks[b"PLTE"]
    return lines[:, 1:], [tuple(colours[i : i + 3]) for i in range(0, 768, 3)]


def test_the_map_shows_each_value_and_each_of_the_four_others() -> None:
    grid = np.ma.MaskedArray(
        [[-4.0, -2.0, 0.0], [-np.inf, np.inf, np.nan], [-1.0, -3.0, -4.0]],
        mask=np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=bool),
    )
    seen, colours = pixels(Heat(np.array([0, 5, 10]), grid).image())
    # Columns are training steps, and the last time step lies at the top.
    levels = {-4.0: 0, -3.0: 60, -2.0: 120, -1.0: 179, 0.0: 239}
    assert seen.T[0].tolist() == [levels[0.0], levels[-2.0], levels[-4.0]]
    assert seen.T[1].tolist() == [palette.NAN, palette.INF, palette.ZERO]
    assert seen.T[2].tolist() == [palette.ABSENT, levels[-3.0], levels[-1.0]]
    light = [sum(c) for c in colours[: palette.LEVELS]]
    assert light == sorted(light) or np.corrcoef(light, range(len(light)))[0, 1] > 0.98
    assert len(set(colours[: palette.LEVELS])) == palette.LEVELS


def test_a_map_names_in_its_key_what_occurs_and_no_more(tmp_path: Path) -> None:
    rows = {0: [-1.0, -np.inf, 0.0], 1: [-1.0, np.inf, 0.0], 2: [-1.0, -2.0, 0.0]}
    run = make(tmp_path / "r.db", rows=rows)
    chips = [
        a["class"]
        for tag, a in Page(report.html(run)).elements
        if tag == "i" and a.get("class", "").startswith("chip")
    ]
    assert chips == ["chip zero", "chip inf"]


@given(st.integers(0, 2**32), st.integers(1, 3000), st.integers(6, 500), st.booleans())
@settings(max_examples=60, deadline=None)
def test_thinning_keeps_extremes_ends_and_faults(
    seed: int, count: int, limit: int, has_faults: bool
) -> None:
    noise = np.random.default_rng(seed)
    x, y = np.arange(count, dtype=float), noise.normal(size=count)
    if has_faults:
        y[noise.random(count) < 0.01] = noise.choice([math.nan, math.inf, -math.inf])
    kept_x, kept_y = thinned(x, y, limit)
    assert len(kept_x) <= limit + 2 or len(x) <= limit
    assert kept_x[0] == x[0] and kept_x[-1] == x[-1] and (np.diff(kept_x) > 0).all()
    np.testing.assert_array_equal(kept_y, y[kept_x.astype(int)])
    if np.isfinite(y).any():
        finite, kept = y[np.isfinite(y)], kept_y[np.isfinite(kept_y)]
        assert (kept.min(), kept.max()) == (finite.min(), finite.max())
    assert np.isfinite(kept_y).all() == np.isfinite(y).all()


@example([0.0, 6e-05], True, False)  # two values that no label of four figures tells apart
@given(st.lists(st.floats(-300, 300), min_size=1, max_size=30), st.booleans(), st.booleans())
def test_an_axis_holds_its_values_and_labels_lie_where_they_say(
    values: list[float], is_log: bool, powers: bool
) -> None:
    axis = around(np.array(values), is_log=is_log, powers=powers)
    assert all(0 <= axis.at(v) <= 1 for v in values)
    ticks = axis.ticks()
    assert len(ticks) <= 12
    for place, text in ticks:
        assert -1e-6 <= place <= 1 + 1e-6
        plain = text.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻\u2212", "0123456789--")).replace(",", "")
        mantissa, times, exponent = plain.partition("\u00d710")
        if re.fullmatch(r"10[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", text):
            value = float(plain[2:])
        elif times:
            value = float(mantissa) * 10.0 ** int(exponent)
            value = math.log10(value) if is_log else value
        else:
            value = math.log10(float(plain)) if is_log else float(plain)
        span = abs(axis.high - axis.low)
        assert axis.at(value) == pytest.approx(place, abs=0.02 + 2e-3 * abs(value) / span)


def test_the_curve_runs_through_its_points(tmp_path: Path) -> None:
    run = make(tmp_path / "r.db", rows={0: decay(5, -2.0)}, notes={"lag": 4})
    page = Page(report.html(run))
    data = next(json.loads(a["data-plot"]) for _, a in page.elements if "data-plot" in a)
    assert data["lines"][0]["y"] == [0, -2, -4, -6, -8]
    d = next(a["d"] for _, a in page.elements if a.get("class") == "line main")
    points = [tuple(map(float, p.split())) for p in re.findall(r"[\d.]+ [\d.]+", d)]
    assert [x for x, _ in points] == [1000, 750, 500, 250, 0]
    heights = np.diff([y for _, y in points])
    np.testing.assert_allclose(heights, heights[0], atol=1.1)
    rules = {a["class"]: a["style"] for _, a in page.elements if "rule" in a.get("class", "")}
    across = float(re.findall(r"[\d.]+", rules["rule across"])[0])
    assert across == pytest.approx(100 - points[2][1] / 10, abs=0.06)  # -4: the third point
    assert rules["rule up right"] == "left:0.00%"


# Whatever is missing ----------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
ROWS: dict[str, dict[int, Any]] = {
    "none": {},
    "one step": {0: decay(5, -1)},
    "one time step": {0: [-1.0], 1: [-2.0]},
    "one of each": {0: [3.0]},
    "nan": {0: decay(5, -1), 1: np.full(5, NAN)},
    "inf": {0: np.full(5, INF), 1: np.full(5, INF)},
    "zero": {0: np.full(5, -INF), 1: np.full(5, -INF)},
    "absent": {0: np.ma.masked_all(5), 1: np.ma.masked_all(5)},
    "mixed": {0: [NAN, INF, -INF, 0.0], 1: np.ma.MaskedArray([0.0, 1.0], mask=[True, False])},
    "huge": {0: [60000.0, 0.0], 1: [-60000.0, 0.0]},
}
SCALARS: dict[str, dict[int, dict[str, float]]] = {
    "none": {},
    "once": {3: {"loss": 1.0}},
    "nan": {0: {"loss": NAN, "grad_norm": INF}, 1: {"loss": NAN, "grad_norm": 0.0}},
    "negative": {0: {"loss": -1.0, "lr": 0.0}, 9: {"loss": -INF, "horizon": 3}},
    "tiny": {0: {"loss": 5e-324, "slope": 1e300}, 1: {"loss": 1e308, "slope": -1e300}},
}


@pytest.mark.parametrize(("rows", "scalars"), list(itertools.product(ROWS, SCALARS)))
def test_a_page_can_be_made_of_anything(tmp_path: Path, rows: str, scalars: str) -> None:
    verdicts = ["", "healthy", "vanishing", "exploding", "saturated", "nonfinite", "odd"]
    # Each pair meets three of the verdicts, one of them told as before and after.
    at = list(ROWS).index(rows) + 2 * list(SCALARS).index(scalars)
    for i, verdict in enumerate((verdicts + verdicts)[at % 7 : at % 7 + 3]):
        notes = {"verdict": verdict, "lag": 3} if verdict else {}
        run = make(tmp_path / f"{i}.db", rows=ROWS[rows], scalars=SCALARS[scalars], notes=notes)
        page = Page(report.html([run, run] if i % 2 else run))
        assert page.inside("h1")
        for _, attributes in page.elements:
            numbers = " ".join(attributes.get(k, "") for k in ("d", "style", "viewbox"))
            assert not re.search(r"nan|inf\b", numbers.replace("infinite", ""))
        if rows == "none":
            continue
        ElementTree.parse(report.picture(run, tmp_path / "p.svg"))


def test_notes_of_any_shape_are_taken(tmp_path: Path) -> None:
    odd: list[Any] = [
        None,
        1,
        "text",
        [],
        [1, "x"],
        {},
        {"a": {"b": [1, None]}},
        [{}],
        [{"name": 5}],
    ]
    for i, value in enumerate(odd):
        keys = "lag scores layers remedies trials data thresholds model verdict title kind".split()
        run = make(tmp_path / f"{i}.db", rows=ROWS["one step"], notes=dict.fromkeys(keys, value))
        Page(report.html([run, run, run]))


@pytest.mark.slow
def test_a_long_record_stays_below_a_megabyte(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    with Record.create(tmp_path / "r.db", config={}) as rec:
        for step in range(100_000):
            rec.scalars(step, {"loss": float(noise.lognormal()), "grad_norm": 1.0 + step % 7})
        for step in range(0, 100_000, 1000):
            for layer in range(9):
                for state in "hc":
                    row = noise.normal(-20, 15, 2000)  # incompressible: the worst case
                    rec.row(step, "log10_grad", f"layer{layer}", row, state=state)
                rec.row(step, "gate:forget", f"layer{layer}", [0.5])
    page = report.html(read(tmp_path / "r.db"))
    assert len(page.encode()) < 1_000_000
    shown = Page(page)
    assert "more are in the record" in shown.words


# Safety -----------------------------------------------------------------------------------------

ATTACKS = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</style></title><svg/onload=alert(1)>",
    "<!-- -->]]>&lt;b&gt;&#x3c;i&#x3e;",
    "javascript:alert(1)\x00\x0b\x1b\ud800",
]


def everywhere(path: Path, text: str) -> Run:
    """A record with ``text`` wherever a record takes one."""
    pair = {text: text, "list": [text, {text: text}]}
    with Record.create(path, config=pair) as rec:
        for step in (0, 1):
            rec.row(step, "log10_grad", text, decay(5, -1.0), state=text)
            rec.row(step, f"gate:{text}", text, [0.1])
            rec.scalars(step, {text: 1.0, "loss": 2.0})
        rec.event(0, text, text, data=text)
        fields = ("fault", "layer", "gate", "lag", "step", "text")
        rec.finding(0, dict.fromkeys(fields, text) | {"evidence": pair, "remedies": [text]})
        for key in ("title", "kind", "verdict", "summary", text):
            rec.note(key, text + "\ud800")  # half a character, as a file name may hold
        rec.note(
            "scores", [dict.fromkeys(("name", "unit", "better"), text) | {"value": 1, "ours": 1}]
        )
        rec.note("layers", [dict.fromkeys(("name", "cell", "hidden", "how", "exactness"), text)])
        rec.note("remedies", [{"name": text, "options": pair, "claim": text, "changed": text}])
        trial = {"remedy": text, "options": pair, "score": text, "score_unit": text}
        rec.note("trials", [trial | {"verdict": text, "seconds": 1.0, "changed": text}])
        rec.note("data", pair)
        rec.note("thresholds", pair)
    return read(path)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_text_of_a_record_becomes_markup(tmp_path: Path, attack: str, count: int) -> None:
    attack = attack.encode("utf-8", "replace").decode()  # a database takes no lone surrogate

    def skeleton(text: str, name: str) -> list[tuple[str, list[str]]]:
        run = everywhere(tmp_path / name, text)
        source = report.html([run] * count, title=text)
        assert not re.search(r"[\x00-\x08\x0b-\x1f]", source), "no place in HTML for these"
        page = Page(source)
        return [(tag, sorted(attributes)) for tag, attributes in page.elements]

    assert skeleton(attack, "bad.db") == skeleton("harmless", "good.db")


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_a_record_becomes_markup_in_a_picture(tmp_path: Path, attack: str) -> None:
    run = everywhere(tmp_path / "r.db", attack.encode("utf-8", "replace").decode())
    tree = ElementTree.parse(report.picture(run, tmp_path / "p.svg"))
    tags = {e.tag.rpartition("}")[2] for e in tree.iter()}
    assert tags <= {"svg", "style", "rect", "text", "g", "path", "image"}


def test_the_page_loads_nothing_and_runs_only_its_own_script(tmp_path: Path) -> None:
    text = report.html(everywhere(tmp_path / "r.db", "x"))
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name == "href" and value.startswith("#"):
                continue  # to a place on the same page
            if name in ("src", "href", "srcset", "action"):
                is_inside = tag == "a" and value.startswith("#")
                assert is_inside or value.startswith("data:image/png;base64,")
    assert "url(" not in text and "@import" not in text and "://" not in text
    (script,) = [code for code in page.inside("script") if code.strip()]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


# Files ------------------------------------------------------------------------------------------


def test_writing_replaces_in_one_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = make(tmp_path / "r.db", rows={0: decay(5, -1.0)})
    folder = tmp_path / "out"
    path = report.write(run, folder / "report.html")
    assert path.read_text(encoding="utf-8") == report.html(run)
    with pytest.raises(ValueError, match="at least one run"):
        report.write([], path)
    assert path.read_text(encoding="utf-8") == report.html(run)
    with pytest.raises(ValueError, match="folder"):
        report.write(run, folder)
    with pytest.raises(UnicodeEncodeError):  # the disk fails no sooner than in the writing
        put("\ud800", path)
    assert path.read_text(encoding="utf-8") == report.html(run)
    assert list(folder.iterdir()) == [path]
    other = path.stat().st_mode & 0o777
    plain = folder / "plain"
    plain.touch()
    assert other == plain.stat().st_mode & 0o777


def test_a_picture_needs_something_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        report.picture(make(tmp_path / "r.db"), tmp_path / "p.svg")
    assert not (tmp_path / "p.svg").exists()


def test_the_picture_says_the_verdict(tmp_path: Path) -> None:
    run = make(
        tmp_path / "r.db", rows={0: decay(64, -0.375), 1: decay(64, -0.5)}, notes={"lag": 63}
    )
    tree = ElementTree.parse(report.picture(run, tmp_path / "p.svg"))
    texts = [e.text for e in tree.iter() if e.tag.endswith("text")]
    assert sentence.verdict(chapter(run, "")) in texts
    (image,) = [e for e in tree.iter() if e.tag.endswith("image")]
    seen, _ = pixels(image.attrib["href"])
    assert seen.shape == (64, 2)


def test_backwards_axes_place_values_from_the_right() -> None:
    assert [Axis(10.0, 0.0).at(v) for v in (10, 5, 0)] == [0, 0.5, 1]


def test_a_chart_of_lines_stands_alone(tmp_path: Path) -> None:
    x = np.arange(3.0)
    first = report.Line("a <b>", x, np.array([0.0, math.inf, 2.0]), "before")
    plot = report.Plot("T", "about", [first, report.Line("second", x, x)], "x", "y", is_log=True)
    tree = ElementTree.parse(report.lines(plot, tmp_path / "c.svg"))
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"T", "a <b>", "second", "x", "y"} <= set(texts)
    curves = [p for p in tree.iter("{http://www.w3.org/2000/svg}path") if "d" in p.attrib]
    drawn = [p.attrib["d"] for p in curves if p.attrib.get("class") == "line before"]
    assert drawn[0].count("M") == 2 and "inf" not in drawn[0]  # broken where it is not finite
    low, high = (float(drawn[0].split("M")[k].split()[1]) for k in (1, 2))
    assert low > high  # the greater value lies higher
    with pytest.raises(ValueError, match="no line to draw"):
        report.lines(report.Plot("T", "", [], "x", "y"), tmp_path / "d.svg")


def test_a_page_shows_what_the_model_does_and_its_contents_lead_there(tmp_path: Path) -> None:
    """Every window of the note is drawn, what is missing is left out, every link has its target."""
    ahead: dict[str, Any] = {
        "series": "",
        "after_date": "2024-01-01T05:00:00",
        "dates": ["2024-01-01T06:00:00", "2024-01-01T07:00:00"],
        "past": [1.0, 2.0, 3.0],
        "values": [4.0, 5.0],
        "low": [3.0, 3.5],
        "high": [5.0, 6.5],
        "truth": [4.5, None],
    }
    windows = [{**ahead, "name": name, "rmse": 0.5} for name in ("worst", "median", "best")]
    windows[1]["low"] = [None, None]  # an interval that is not known
    note = {
        "kind": "forecast",
        "target": "load <kW>",
        "level": 0.8,
        "coverage": {"0.8": 0.79},
        "calibrated on": 120,
        "windows": windows,
        "residuals": {"edges": [0, 1, 2], "counts": [3, 1], "mean": 0.1, "deviation": 1.0},
        "next": [ahead],
    }
    texts = [{"temperature": 0.5, "text": "to be & <b>"}]
    for name, shown in (("a", note), ("b", {"kind": "text", "samples": texts}), ("c", {})):
        with Record.create(tmp_path / f"{name}.db", config={}) as record:
            record.note("shown", shown)
        with read(tmp_path / f"{name}.db") as run:
            page = Page(report.html(run))
        ids = [a["id"] for _, a in page.elements if "id" in a]
        links = [a["href"][1:] for t, a in page.elements if t == "a" and a["href"][0] == "#"]
        assert len(set(ids)) == len(ids) and links and set(links) <= set(ids)
        said = " ".join(text for _, text in page.texts)
        drawn = [a for _, a in page.elements if a.get("class") == "band"]
        if name == "a":
            assert "Worst forecast" in said and "Best forecast" in said and "79.0 %" in said
            assert len(drawn) == 3
        assert ("to be & <b>" in said) == (name == "b")
