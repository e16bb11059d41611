"""Try the cure: one guarded action, one trial at a time, within a budget, and forks that differ
by their remedy alone."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from steadygrad.board import Board
from steadygrad.board.app import ACTIONS, application
from steadygrad.board.cures import UNTREATED, Cures, Refused, fork_command, suggested
from steadygrad.board.guard import Guard
from steadygrad.board.sources import Sources
from steadygrad.cli import main
from steadygrad.errors import InputError
from steadygrad.record import Record, read
from steadygrad.train import TrainConfig, fork, train
from tests.browser import axe_findings, chromium, troubles_of

TOKEN, PORT = "the-secret-token", 4711
HOME = f"http://127.0.0.1:{PORT}"
JSON = {"content-type": "application/json"}
# Writes a record as a fork would: the remedy as its title, and a loss.
WRITES = """
import sys, time
from pathlib import Path
from steadygrad.record import Record
options = dict(a[2:].split("=", 1) for a in sys.argv[2:])
out = Path(options["out"])
with Record.create(out / "run.db", config={}, overwrite=True) as record:
    record.note("title", options.get("remedy", "untreated"))
    record.scalars(5, {"val_loss": 2.0})
    record.commit()
    time.sleep(SLEEP)
    record.scalars(9, {"val_loss": 0.5})
"""


def sick(path: Path, *remedies: str) -> Path:
    with Record.create(path, config={}) as record:
        record.scalars(5, {"loss": 1.0})
        record.finding(5, {"fault": "vanishing", "layer": "lstm", "remedies": list(remedies)})
    return path


def command(tmp_path: Path, sleep: float = 0.0) -> list[str]:
    script = tmp_path / "forking.py"
    script.write_text(WRITES.replace("SLEEP", str(sleep)))
    return [sys.executable, str(script)]


def until(holds: Any, seconds: float = 60.0) -> None:
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last
        time.sleep(0.05)


def ask(folder: Path, cures: Cures | None, path: str, method: str, **headers: str) -> Any:
    sources = Sources([folder])
    sources.find()
    sources.refresh()
    inner = application(sources, lambda: True, cures)
    guarded: Any = Guard(inner, TOKEN, PORT, () if cures is None else ACTIONS)
    content = json.dumps({"run": folder.name})

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=guarded)
        async with httpx.AsyncClient(transport=transport, base_url=HOME) as client:
            return await client.request(method, path, headers=headers, content=content)

    return asyncio.run(send())


def test_only_the_page_itself_may_start_anything(tmp_path: Path) -> None:
    sick(tmp_path / "run.db", "forget-bias")
    cures, path = Cures(command(tmp_path)), f"/{TOKEN}/cure"
    own = {**JSON, "Origin": HOME}
    refused = {
        "no origin": ask(tmp_path, cures, path, "POST", **JSON),
        "another origin": ask(tmp_path, cures, path, "POST", **JSON, Origin="http://evil.example"),
        "no site": ask(tmp_path, cures, path, "POST", **JSON, Origin="null"),
        "another port": ask(tmp_path, cures, path, "POST", **JSON, Origin="http://127.0.0.1:1"),
        "cross-site": ask(tmp_path, cures, path, "POST", **own, **{"Sec-Fetch-Site": "cross-site"}),
        "another host": ask(tmp_path, cures, path, "POST", **own, Host="evil.example:4711"),
        "no token": ask(tmp_path, cures, "/cure", "POST", **own),
        "wrong token": ask(tmp_path, cures, f"/{TOKEN}x/cure", "POST", **own),
    }
    assert {why: answer.status_code for why, answer in refused.items()} == dict.fromkeys(
        refused, 403
    )
    form = {"Origin": HOME, "content-type": "text/plain"}  # what a form can send
    assert ask(tmp_path, cures, path, "POST", **form).status_code == 415
    assert ask(tmp_path, cures, path, "GET").status_code == 405
    assert ask(tmp_path, cures, f"/{TOKEN}/state", "POST", **own).status_code == 405
    assert ask(tmp_path, None, path, "POST", **own).status_code == 405  # a page that only reads
    assert cures.plain()["attempts"] == [] and not (tmp_path / "cures").exists()
    assert ask(tmp_path, cures, path, "POST", **own).status_code == 202
    cures.close()


def test_each_suggested_remedy_is_tried_beside_none_one_trial_at_a_time(tmp_path: Path) -> None:
    record = sick(tmp_path / "run.db", "forget-bias:value=3.0", "clip-norm")
    cures = Cures(command(tmp_path, 0.3))
    folder = cures.start("a", record)
    with pytest.raises(Refused) as busy:
        cures.start("a", record)
    assert busy.value.status == 409
    until(lambda: not cures.plain()["busy"])
    found = cures.plain()["attempts"]
    assert [a["remedy"] for a in found] == [UNTREATED, "forget-bias:value=3.0", "clip-norm"]
    assert {a["state"] for a in found} == {"ended"}
    assert found[1]["text"] == "validation loss 2 at step 5, 0.5 at step 9"
    titles = []
    for path in sorted(folder.glob("*/run.db")):
        with read(path) as run:
            titles.append(run.notes["title"])
    assert sorted(titles) == ["clip-norm", "forget-bias:value=3.0", "untreated"]


def test_all_forks_begin_at_one_checkpoint_also_of_a_run_that_saves_meanwhile(
    tmp_path: Path,
) -> None:
    record = sick(tmp_path / "run.db", "forget-bias", "clip-norm")
    saved = tmp_path / "checkpoint.safetensors"
    saved.write_text("first")
    script = tmp_path / "saving.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "options = dict(a[2:].split('=', 1) for a in sys.argv[2:])\n"
        "with open('begun.txt', 'a') as file:\n"
        "    file.write(Path(options['start']).read_text() + ' ')\n"
        "Path(sys.argv[1]).with_name('checkpoint.safetensors').write_text('later')\n"
    )
    script.write_text(script.read_text().replace("'begun.txt'", repr(str(tmp_path / "begun.txt"))))
    cures = Cures([sys.executable, str(script)])
    cures.start("a", record)
    until(lambda: not cures.plain()["busy"])
    assert (tmp_path / "begun.txt").read_text().split() == ["first"] * 3
    assert saved.read_text() == "later"
    own = Cures([sys.executable, str(script), "--trainer=mine.py:train"])
    assert own._start(record, tmp_path) == []


def test_a_trial_keeps_its_budget_and_can_be_cancelled(tmp_path: Path) -> None:
    record = sick(tmp_path / "run.db", "forget-bias")
    slow = Cures(command(tmp_path, 600), seconds=2)
    began = time.monotonic()
    slow.start("a", record)
    until(lambda: not slow.plain()["busy"], 60)
    assert time.monotonic() - began < 40
    assert {a["state"] for a in slow.plain()["attempts"]} == {"stopped"}
    slow = Cures(command(tmp_path, 600))
    slow.start("a", record)
    until(lambda: slow.plain()["attempts"][0]["state"] == "running")
    slow.close()
    assert {a["state"] for a in slow.plain()["attempts"]} == {"cancelled"}


def test_a_fork_that_fails_says_why_and_a_record_without_remedies_is_refused(
    tmp_path: Path,
) -> None:
    record = sick(tmp_path / "run.db", "forget-bias")
    cures = Cures([sys.executable, "-c", "raise SystemExit('no checkpoint')"])
    cures.start("a", record)
    until(lambda: not cures.plain()["busy"])
    assert {(a["state"], a["text"]) for a in cures.plain()["attempts"]} == {
        ("failed", "no checkpoint")
    }
    with pytest.raises(Refused, match="suggest no remedy"):
        cures.start("b", sick(tmp_path / "b.db"))
    assert suggested(sick(tmp_path / "c.db", "clip-norm", "clip-norm:max_norm=2")) == ["clip-norm"]


# Forks of a training ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wave")
    rows = np.sin(np.arange(300) / 3) + np.sin(np.arange(300) / 4.7)
    (folder / "wave.csv").write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    train(TrainConfig(folder / "wave.csv", out=folder / "run", max_steps=40, **OPTIONS))
    return folder / "run"


OPTIONS: dict[str, Any] = {
    "window": 12,
    "horizon": 2,
    "hidden": 8,
    "validate_every": 20,
    "threads": 1,
    "lag": 11,
    "cell": "elman",
}


def losses(path: Path) -> list[float]:
    with read(path / "run.db") as record:
        return list(record.scalars("loss")[1])


def test_forks_begin_at_the_checkpoint_and_differ_by_their_remedy_alone(
    run: Path, tmp_path: Path
) -> None:
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.suffix == ".safetensors"}
    for name, remedy in (
        ("a", None),
        ("b", None),
        ("gated", "gated"),
        ("tight", "clip-norm:max_norm=1e-9"),
    ):
        fork(run, tmp_path / name, remedy, steps=12)
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.suffix == ".safetensors"} == before
    a, b, gated, tight = (losses(tmp_path / n) for n in ("a", "b", "gated", "tight"))
    assert a == b and len(a) == 12
    assert tight[0] == a[0] and tight[1:] != a[1:]  # the same weights and batch, another step
    assert gated[0] != a[0]  # other weights in the recurrence
    with read(tmp_path / "gated" / "run.db") as record:
        notes = record.notes
        assert record.config["remedies"] == ["gated"] and record.last_step() == 52
    assert notes["fork"]["step"] == 40 and notes["title"] == "gated, from step 40"
    with pytest.raises(InputError, match="no remedy"):
        fork(run, tmp_path / "c", "no-such-thing")
    with pytest.raises(InputError, match="the folder of the run itself"):
        fork(run, run)


def test_the_command_forks_a_run_and_a_trainer_of_ones_own(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        main(["fork", str(run), "--out", "f", "--steps", "5", "--remedy", "orthogonal-init"]) == 0
    )
    assert "finished at step 45" in capsys.readouterr().out
    Path("mine.py").write_text(
        "def train(remedy, record):\n    record.scalars(1, {'loss': 1.0 if remedy else 2.0})\n"
    )
    call = ["fork", str(run), "--trainer", "mine.py:train", "--out", "g", "--remedy", "clip-norm"]
    assert main(call) == 0
    assert losses(tmp_path / "g") == [1.0]
    assert main([*call, "--steps", "3"]) == 2
    assert fork_command("mine.py:train")[-1] == "--trainer=mine.py:train"


# In a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_the_button_forks_a_run_and_draws_the_forks(
    run: Path, tmp_path: Path, browser: Any, width: int, scheme: str
) -> None:
    with Record.open(run / "run.db") as record:
        body = {
            "fault": "vanishing",
            "layer": "recurrent",
            "text": "t",
            "remedies": ["orthogonal-init"],
        }
        record.finding(40, body)
    with Board([run], cure=fork_command()) as board:
        viewport = {"width": width, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        page = context.new_page()
        troubles = troubles_of(page)
        page.goto(board.url)
        page.wait_for_selector("#offers button")
        page.focus("#offers button")
        page.keyboard.press("Enter")
        page.wait_for_selector("#cancel")
        until(lambda: page.inner_text("#attempts").count("ended") == 2, 300)
        until(lambda: "orthogonal-init" in page.inner_text("#runs"), 60)
        page.wait_for_selector("#offers button[data-run]")
        assert "validation loss" in page.inner_text("#attempts")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert axe_findings(page) == [] and troubles == []
        context.close()
