"""Recurrent PPO of sb3-contrib: rollouts in one call are those of its loop of calls."""

import pytest
import torch
from torch import nn


def test_rollouts_with_episode_starts_are_one_call() -> None:
    pytest.importorskip("stable_baselines3")
    sb3 = pytest.importorskip("sb3_contrib")
    from sb3_contrib.common.recurrent.type_aliases import (  # type: ignore[import-not-found]
        RNNStates,
    )

    from steadygrad.integrations.stable_baselines3 import whole_sequences

    agent = sb3.RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1)
    states = [torch.randn(1, 3, 256) for _ in range(4)]
    given = (
        torch.randn(30, 4),
        torch.randint(2, (30,)),
        RNNStates((states[0], states[1]), (states[2], states[3])),
        (torch.arange(30) % 7 == 0).float(),
    )
    parameters = list(agent.policy.parameters())
    results = []
    for policy in (agent.policy, whole_sequences(agent).policy):
        values, log_prob, _ = policy.evaluate_actions(*given)
        grads = torch.autograd.grad((values.flatten() * log_prob).sum(), parameters)
        results.append((values, log_prob, *grads))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)
    assert all(a is b for a, b in zip(agent.policy.parameters(), parameters, strict=True))
    agent.learn(64)
    with pytest.raises(TypeError, match="expected an agent with a recurrent policy"):
        whole_sequences(nn.Linear(3, 4))
