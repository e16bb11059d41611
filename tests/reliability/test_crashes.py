"""A training that is killed, or whose disk refuses, at anything that it does to its files.

Every operation is enumerated by a library between the process and the system (`shim.c`). After
each fault the same command goes on, and ends as one that nothing happened to: the same weights,
record and rollbacks, and each event once. Minutes: ``make test-reliability``.
"""

import platform
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steadygrad.record import read
from tests.helpers.marks import needs_compiler
from tests.reliability.crash_server import TRACEBACK, CrashServer, after_power_cut, read_log

pytestmark = [
    pytest.mark.slow,
    needs_compiler,
    pytest.mark.skipif(platform.system() != "Linux", reason="a library is preloaded as on Linux"),
]
OPTIONS = (
    *("--window", "6", "--horizon", "1", "--hidden", "4", "--lag", "none", "--budget", "0"),
    *("--max-steps", "10", "--validate-every", "4", "--threads", "1"),
    *("--cell", "elman:nonlinearity=relu", "--learning-rate", "30", "--clip", "0"),
    *("--rollbacks", "3"),  # which it needs, so that the files of a rollback are hit, too
    *("--checkpoint-every-seconds", "1e-9", "--resume"),
)


@dataclass(frozen=True)
class Bench:
    """The server, the data, and a run that nothing happened to."""

    server: CrashServer
    data: Path
    whole: Path
    log: Path
    operations: int


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("crashes")
    data = folder / "wave.csv"
    rows = np.sin(np.arange(120) / 3)
    data.write_text("y\n" + "\n".join(f"{v:.5f}" for v in rows) + "\n")
    whole, log = folder / "run", folder / "log"
    whole.mkdir()
    with CrashServer(folder) as server:
        server.warm_up(["train", str(data), "--out", str(folder / "warm"), *OPTIONS])
        ended = server.run(["train", str(data), "--out", str(whole), *OPTIONS], whole, log=log)
        assert ended.code == 0, ended.said
        assert ended.done > 50
        yield Bench(server, data, whole, log, ended.done)


def resumed(bench: Bench, out: Path) -> None:
    """Go on with a run, and see that it ends as the one that nothing happened to."""
    ended = bench.server.run(["train", str(bench.data), "--out", str(out), *OPTIONS], out)
    assert ended.code == 0, ended.said
    ours, theirs = (load_file(f / "model.safetensors") for f in (out, bench.whole))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert (out / "report.html").exists()
    assert not list(out.glob(".*.tmp"))  # what a killed writer left is swept
    with read(out / "run.db") as a, read(bench.whole / "run.db") as b:
        for name in ("loss", "val_loss", "grad_norm", "lr"):
            for x, y in zip(a.scalars(name), b.scalars(name), strict=True):
                np.testing.assert_array_equal(x, y)
        kinds = [
            [(e["kind"], e["step"]) for e in run.events() if e["kind"] != "resumed"]
            for run in (a, b)
        ]
        assert kinds[0] == kinds[1]
        assert a.notes["scores"] == b.notes["scores"]
        assert a.notes.keys() == b.notes.keys()


def faulty(bench: Bench, out: Path, mode: str, at: int) -> None:
    out.mkdir()
    arguments = ["train", str(bench.data), "--out", str(out), *OPTIONS]
    ended = bench.server.run(arguments, out, mode, at)
    assert ended.code != TRACEBACK, ended.said
    if mode == "kill":
        assert ended.code in (-signal.SIGKILL, 0)
    elif ended.code:
        assert ended.code == 2 and ended.said.count("\n") == 1, ended.said
    resumed(bench, out)


@pytest.mark.parametrize("mode", ["kill", "full", "broken"])
def test_a_fault_at_every_operation(mode: str, bench: Bench, tmp_path: Path) -> None:
    for at in range(bench.operations):
        faulty(bench, tmp_path / str(at), mode, at)


def _into(path: str, bench: Bench, out: Path) -> str:
    return path.replace(str(bench.whole), str(out), 1)


@pytest.mark.parametrize("moves", [False, True])
def test_a_power_cut_after_every_operation(moves: bool, bench: Bench) -> None:
    operations, out = read_log(bench.log), bench.whole.with_name("cut")
    moved = [
        replace(o, path=_into(o.path, bench, out), to=_into(o.to, bench, out)) for o in operations
    ]
    for at in range(len(moved) + 1):
        after_power_cut(moved[:at], out, moves=moves)
        resumed(bench, out)
