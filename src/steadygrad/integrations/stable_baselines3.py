"""Stable-Baselines3 and its contrib: a callback that watches, and rollouts in one call.

``agent.learn(..., callback=SteadygradCallback(lag=50))``; ``whole_sequences(agent)``.
"""

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback  # type: ignore[import-not-found]
from torch import Tensor, nn

from steadygrad.integrations.watching import Watching
from steadygrad.nn import LSTM


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


def whole_sequences(agent: Any) -> Any:
    """Let a recurrent agent of sb3-contrib evaluate its rollouts in one call of each LSTM.

    Where an episode starts within a rollout, sb3-contrib calls its LSTM once for every time step,
    to set the state to zero in between. Here the layers become `steadygrad.LSTM`, which is told
    where episodes start (``resets``): same values, same gradients, the very same parameters, so
    that the optimiser and saved agents stay as they are. After loading one, call this again.

    Args:
        agent: A ``RecurrentPPO``, or a policy of it, before or during its training.

    Returns:
        The agent.

    Raises:
        TypeError: It has no recurrent policy of sb3-contrib.
    """
    policy = getattr(agent, "policy", agent)
    if not hasattr(policy, "_process_sequence") or not hasattr(policy, "lstm_actor"):
        raise TypeError(
            f"whole_sequences: expected an agent with a recurrent policy, such as sb3_contrib's "
            f"RecurrentPPO('MlpLstmPolicy', ...), got {type(agent).__name__}"
        )
    for name in ("lstm_actor", "lstm_critic"):
        layer = getattr(policy, name)
        if type(layer) is nn.LSTM:
            setattr(policy, name, _ours(layer))
    policy._process_sequence = _process_sequence
    return agent


def _ours(layer: nn.LSTM) -> LSTM:
    """The layer as ours, with its own parameters."""
    twin = LSTM(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bias=layer.bias,
        proj_size=layer.proj_size,
        device="meta",
    )
    twin.dropout = layer.dropout
    for name, parameter in layer.named_parameters():
        setattr(twin, name, parameter)
    return twin.train(layer.training)


def _process_sequence(
    features: Tensor, lstm_states: tuple[Tensor, Tensor], episode_starts: Tensor, lstm: LSTM
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """As the policy's own: rows of whole sequences, one after another, in and out."""
    rows = lstm_states[0].shape[1]
    x = features.reshape(rows, -1, lstm.input_size).swapaxes(0, 1)
    resets = episode_starts.reshape(rows, -1).swapaxes(0, 1) != 0
    output, last = lstm(x, lstm_states, resets=resets)
    return output.swapaxes(0, 1).flatten(0, 1), last
