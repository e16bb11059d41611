"""Execute runs on a Ray cluster."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from steadygrad.bench.executors.base import ATTEMPTS, Done, Work, died
from steadygrad.bench.trial import Trial
from steadygrad.errors import InputError

AHEAD = 2  # runs submitted per core


@final
@dataclass(frozen=True)
class OnRay:
    """Tasks of Ray Core, one core each; a task whose worker or node dies is restarted.

    Args:
        address: Address of the cluster, ``"auto"`` for one running on this machine; a new local one
            if not given.
    """

    address: str | None = None

    def run(self, work: Work, trials: Sequence[Trial]) -> Iterator[Done]:
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"--address {self.address}: no Ray cluster there ({error})"
                ) from None
        try:
            yield from self._run(ray, work, trials)
        finally:
            if started:
                ray.shutdown()

    def _run(self, ray: Any, work: Work, trials: Sequence[Trial]) -> Iterator[Done]:
        # Python errors are results already (`run_trial`); only deaths are retried.
        task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, retry_exceptions=False)(work)
        waiting, under_way = deque(trials), {}
        try:
            while waiting or under_way:
                cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
                while waiting and len(under_way) < cores * AHEAD:
                    trial = waiting.popleft()
                    under_way[task.remote(trial)] = trial
                for reference in ray.wait(list(under_way), timeout=5.0)[0]:
                    trial = under_way.pop(reference)
                    try:
                        yield trial, ray.get(reference)
                    except (
                        ray.exceptions.WorkerCrashedError,
                        ray.exceptions.RayTaskError,
                    ) as error:
                        yield trial, died(trial) | {"text": f"{type(error).__name__}: {error}"}
                    except ray.exceptions.RayError:  # a dead node, or an object lost with it
                        yield trial, died(trial)
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError:
        raise InputError(
            "--executor ray: Ray is not installed; install it with: pip install 'steadygrad[ray]'"
        ) from None
    return ray
