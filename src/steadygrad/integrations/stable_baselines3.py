"""Stable-Baselines3 and its contrib: ``model.learn(..., callback=SteadygradCallback(lag=50))``."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback  # type: ignore[import-not-found]

from steadygrad.integrations.watching import Watching


class SteadygradCallback(BaseCallback):
    """Watches the policy of an agent; its numbers go to the agent's logger as ``gradient/...``.

    Args:
        lag: How many steps back the task needs the gradient to reach.
        page: Where to write the page when the training ends; none if not given.
        verbose: As in all callbacks there.
        options: Further options of `steadygrad.watch`.

    Attributes:
        watch: The watch, from the start of the training on.
    """

    def __init__(
        self, lag: Any = None, page: str | Path | None = None, verbose: int = 0, **options: Any
    ) -> None:
        super().__init__(verbose)
        self._watching = Watching(lag, page, options)

    @property
    def watch(self) -> Any:
        """The watch; None before the training began."""
        return self._watching.watch

    @property
    def verdict(self) -> str:
        """The worst fault as of the last measurement."""
        return self._watching.verdict

    def _on_training_start(self) -> None:
        policy: Any = self.model.policy
        self._watching.begin(policy, policy.optimizer)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        watch = self._watching.watch
        if watch is not None:
            for name, value in watch.scalars().items():
                self.logger.record(f"gradient/{name}", value)

    def _on_training_end(self) -> None:
        self._watching.end()
