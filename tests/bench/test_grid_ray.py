"""A grid on a Ray cluster of two nodes: the same numbers, none lost when a node dies."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steadygrad.bench import Grid, OnRay, Progress, Trial, run_grid, run_trial
from steadygrad.record import Results
from tests.helpers import grid_work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("not __import__('importlib').util.find_spec('ray')", reason="no Ray here"),
    # Ray leaves sockets and files to its own processes, and says so when they are collected.
    pytest.mark.filterwarnings("ignore"),
]
SMALL = Trial("parity:length=4", "gru", hidden=4, updates=4, validate_every=2, batch_size=5)


@pytest.fixture
def cluster() -> Iterator[tuple[Any, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]  # an extra
    # Workers find the tests by the path of this process.
    root = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made, second
    made.shutdown()


def test_the_numbers_are_those_of_this_process(cluster: tuple[Any, Any], tmp_path: Path) -> None:
    with Results(tmp_path / "results.db") as results:
        finished = run_grid(
            Grid(("parity:length=4",), seeds=3, base=SMALL), results, OnRay(cluster[0].address)
        )
    for trial, result in finished:
        assert result["figures"] == run_trial(trial)["figures"]


def test_a_node_that_dies_takes_no_run_with_it(cluster: tuple[Any, Any], tmp_path: Path) -> None:
    seen: list[int] = []

    def tell(progress: Progress) -> None:
        if progress.trial is None:
            return
        seen.append(progress.trial.seed)
        if len(seen) == 5:
            cluster[0].remove_node(cluster[1], allow_graceful=False)

    with Results(tmp_path / "results.db") as results:
        finished = run_grid(
            Grid(("parity",), seeds=40, base=SMALL),
            results,
            OnRay(cluster[0].address),
            tell,
            work=grid_work.slow,
        )
        stored = [t["seed"] for t, _ in results.rows()]
    assert sorted(seen) == sorted(stored) == list(range(40))
    assert [result["figures"]["x"] for _, result in finished] == list(range(40))
