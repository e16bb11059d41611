"""The live page: refuses strangers, sends little, follows what grows, and never runs a record."""

import asyncio
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

import steadygrad as sg
from steadygrad.board import Board, snapshot
from steadygrad.board.app import application
from steadygrad.board.guard import Guard
from steadygrad.board.sources import Sources
from steadygrad.errors import InputError
from steadygrad.record import Record, Results, read
from tests.browser import axe_findings, chromium, troubles_of

TOKEN, PORT = "the-secret-token", 4711
HOME = f"http://127.0.0.1:{PORT}"
ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def write(rec: Record, step: int, loss: float = 1.0) -> None:
    rec.scalars(step, {"loss": loss, "grad_norm": 0.5})
    rec.row(step, "log10_grad", "lstm", np.linspace(-6, 0, 20))
    rec.row(step, "gate:forget", "lstm", [0.25])


def begun(path: Path, steps: int = 3) -> Record:
    rec = Record.create(path, config={})
    for step in range(steps):
        write(rec, step)
    rec.note("verdict", "vanishing")
    rec.note("lag", 15)
    rec.commit()
    return rec


def ask(folder: Path, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """One request to the application as it is served, without a socket."""
    guarded: Any = Guard(application(Sources([folder]), lambda: True), TOKEN, PORT)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=guarded)
        async with httpx.AsyncClient(transport=transport, base_url=HOME) as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())


# Who may read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["", "state", "events", "board.js", "board.css"])
def test_only_the_user_of_the_page_on_this_machine_may_read_it(tmp_path: Path, page: str) -> None:
    begun(tmp_path / "run.db").close()
    path = f"/{TOKEN}/{page}"
    assert ask(tmp_path, path).status_code == 200
    assert ask(tmp_path, path, Origin=HOME).status_code == 200
    refused = [
        ask(tmp_path, f"/{page}"),
        ask(tmp_path, f"/{TOKEN[:-1]}/{page}"),
        ask(tmp_path, f"/{TOKEN}x/{page}"),
        ask(tmp_path, f"//{TOKEN}/{page}"),
        ask(tmp_path, path, Host="evil.example"),
        ask(tmp_path, path, Host="evil.example:4711"),
        ask(tmp_path, path, Host="127.0.0.1:4712"),
        ask(tmp_path, path, Host="127.0.0.1"),
        ask(tmp_path, path, Origin="http://evil.example"),
        ask(tmp_path, path, Origin="null"),
        ask(tmp_path, path, Origin=f"http://127.0.0.1:{PORT + 1}"),
        ask(tmp_path, path, **{"Sec-Fetch-Site": "cross-site"}),
        ask(tmp_path, path, **{"Sec-Fetch-Site": "same-site"}),
    ]
    assert {answer.status_code for answer in refused} == {403}
    for answer in refused:
        assert "lstm" not in answer.text and TOKEN not in answer.text
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert ask(tmp_path, path, method).status_code == 405
    for answer in (*refused, ask(tmp_path, path)):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_holds_nothing_of_a_record_and_loads_from_nowhere_else(tmp_path: Path) -> None:
    with begun(tmp_path / "run.db") as rec:
        rec.finding(0, {"fault": ATTACK, "layer": ATTACK, "text": ATTACK, "patch": ATTACK})
        rec.event(0, ATTACK, ATTACK)
        rec.note("title", ATTACK)
    page = ask(tmp_path, f"/{TOKEN}/").text
    assert "alert" not in page and "://" not in page
    assert not re.search(r"<script(?! src=)|\son\w+=|<style", page)
    script = ask(tmp_path, f"/{TOKEN}/board.js").text
    assert "innerHTML" not in script and "eval(" not in script and "document.write" not in script
    (run,) = ask(tmp_path, f"/{TOKEN}/state").json()
    assert run["findings"][0]["text"] == ATTACK  # as data, which the script sets as text


def test_it_listens_on_loopback_alone_and_a_taken_port_is_told(tmp_path: Path) -> None:
    with Board([tmp_path]) as board:
        port = int(board.url.split(":")[2].split("/")[0])
        assert board.url.startswith("http://127.0.0.1:")
        with pytest.raises(InputError, match=f"port {port}: cannot be listened on"):
            Board([tmp_path], port)
        other = Board([tmp_path])
        assert other.url.split("/")[3] != board.url.split("/")[3]
        other.close()


# What is sent -----------------------------------------------------------------------------------


def test_thinning_in_sql_keeps_ends_extremes_and_faults(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    values = noise.normal(size=10_000)
    values[[1234, 5000, 7000]] = math.nan, math.inf, -math.inf
    with Record.create(tmp_path / "r.db", config={}) as rec:
        for step, value in enumerate(values):
            rec.scalars(3 * step, {"loss": value})
    with read(tmp_path / "r.db") as run:
        steps, kept = run.thinned("loss", 100)
        np.testing.assert_array_equal(run.thinned("loss", 10_000)[1], values)
    assert 200 < len(steps) <= 302 and (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(kept, values[steps // 3])
    assert steps[0] == 0 and steps[-1] == 3 * 9_999 and {1234, 5000, 7000} <= set(steps // 3)
    finite, all_finite = kept[np.isfinite(kept)], values[np.isfinite(values)]
    assert (finite.min(), finite.max()) == (all_finite.min(), all_finite.max())


def test_a_long_run_is_sent_in_few_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    with Record.create(tmp_path / "r.db", config={}) as rec:
        for step in range(10_000):
            rec.scalars(step, {"loss": noise.lognormal(), "grad_norm": noise.lognormal()})
        for step in range(0, 10_000, 20):
            rec.row(step, "log10_grad", "lstm", noise.normal(-20, 9, 1000))
    with read(tmp_path / "r.db") as run:
        sent = json.dumps(snapshot.of_run(run, "r"), allow_nan=False)
    assert len(sent) < 120_000


def test_the_map_and_the_curve_are_those_of_the_record(tmp_path: Path) -> None:
    begun(tmp_path / "run.db", steps=4).close()
    with read(tmp_path / "run.db") as run:
        sent = snapshot.of_run(run, "a")
    (drawn,) = sent["maps"]
    assert (drawn["steps"], len(drawn["times"])) == ([0, 1, 2, 3], 20)
    assert sent["left"]["x"] == list(range(20))
    np.testing.assert_allclose(sent["left"]["y"], np.linspace(0, -6, 20), atol=0.02)
    assert sent["verdict"] == "vanishing" and sent["step"] == 3 and not sent["open"]
    assert sent["charts"][0]["title"] == "Loss"


def test_sources_follow_what_grows_is_replaced_appears_and_goes(tmp_path: Path) -> None:
    sources = Sources([tmp_path])
    sources.find()
    assert not sources.refresh() and sources.latest == []
    rec = begun(tmp_path / "a" / "run.db")
    (tmp_path / "notes.db").write_text("no record")
    sources.find()
    assert sources.refresh() and not sources.refresh()
    (source,) = sources.latest
    assert source.name == "a" and json.loads(source.payload)["open"]
    write(rec, 9)
    assert not sources.refresh()  # not committed yet
    rec.commit()
    assert sources.refresh() and json.loads(source.payload)["step"] == 9
    rec.close()
    with Record.create(tmp_path / "a" / "run.db", config={}, overwrite=True) as again:
        write(again, 1)
    assert sources.refresh() and json.loads(source.payload)["step"] == 1
    with Results(tmp_path / "grid" / "results.db") as results:
        figures = {"unit": "loss", "figures": {"loss": 0.5}, "curve": [(1, 0.9), (2, 0.5)]}
        trial = {"task": "adding", "cell": "lstm", "remedies": []}
        results.add("k", trial, figures | {"status": "solved", "seconds": 1.0})
    sources.find()
    assert sources.refresh()
    grid = json.loads({s.name: s for s in sources.latest}["grid"].payload)
    assert grid["tasks"][0]["rows"][0][0] == "lstm"
    for path in (tmp_path / "a").glob("run.db*"):
        path.unlink()
    sources.find()
    assert [s.name for s in sources.latest] == ["grid"]
    sources.close()


def test_a_damaged_record_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    begun(tmp_path / "good.db").close()
    begun(tmp_path / "bad.db").close()
    content = bytearray((tmp_path / "bad.db").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (tmp_path / "bad.db").write_bytes(content)
    sources = Sources([tmp_path])
    sources.find()
    sources.refresh()
    kinds = {s.name: json.loads(s.payload)["kind"] for s in sources.latest}
    assert kinds == {"good": "run", "bad": "trouble"}
    sources.close()


def test_a_watch_serves_what_it_sees(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.LSTM(2, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = sg.watch(model, optimizer, lag=9, every=1)

    def train() -> None:
        optimizer.zero_grad()
        loss = model(torch.randn(10, 3, 2))[0][-1].pow(2).mean()
        loss.backward()
        optimizer.step()

    train()
    served = watch.serve()
    assert watch.serve() is served
    try:
        assert httpx.get(served.url + "state", timeout=60).json()[0]["step"] == 1
        time.sleep(1.1)  # the watch commits about once a second
        train()
        (run,) = httpx.get(served.url + "state", timeout=60).json()
        assert run["step"] == 2 and run["open"] and run["maps"]
    finally:
        served.close()
        watch.close()


# In a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def until(page: Any, condition: str, seconds: float = 60.0) -> None:
    """Wait in Python: the page's policy refuses Playwright's own waiting, which uses eval."""
    last = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < last, condition
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_the_page_draws_updates_takes_keys_and_reconnects(
    tmp_path: Path, browser: Any, width: int, scheme: str
) -> None:
    rec = begun(tmp_path / "run.db")
    board = Board([tmp_path]).start()
    viewport = {"width": width, "height": 900}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    troubles = troubles_of(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(board.url)
    page.wait_for_selector("#charts figure")
    assert "vanishes in the backward pass" in page.inner_text("#headline")
    assert page.inner_text("#link") == "connected"
    rec.finding(7, {"fault": "vanishing", "layer": "lstm", "text": ATTACK, "patch": "x = 1"})
    write(rec, 7, 0.25)
    rec.commit()
    until(page, "document.querySelector('#runs').innerText.includes('step 7')")
    assert ATTACK in page.inner_text("#findings") and "x = 1" in page.inner_text("#findings pre")
    assert page.query_selector("#findings img") is None
    page.focus("#charts .area")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#charts .readout") == "training step 7: 0.25"
    page.focus("#heat .area")
    page.keyboard.press("ArrowRight")
    assert "time step" in page.inner_text("#heat .readout")
    page.focus("#runs input")
    page.keyboard.press("Space")
    until(page, "document.querySelector('#s-charts').hidden")
    page.keyboard.press("Space")
    until(page, "!document.querySelector('#s-charts').hidden")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert axe_findings(page) == []
    assert troubles == []
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {
        board.url.split("/")[2]
    }
    port, token = int(board.url.split(":")[2].split("/")[0]), board.url.split("/")[3]
    board.close()
    until(page, "document.querySelector('#link').innerText.startsWith('reconnecting')")
    write(rec, 8)
    rec.commit()
    again = Board([tmp_path], port, token=token).start()
    until(page, "document.querySelector('#runs').innerText.includes('step 8')")
    assert page.inner_text("#link") == "connected"
    context.close()
    again.close()
    rec.close()
