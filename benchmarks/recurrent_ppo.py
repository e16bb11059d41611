"""Evaluation of actions in recurrent PPO: one call over whole rollouts against a loop of calls.

    python -m benchmarks.recurrent_ppo [--steps 128] [--envs 8] [--hidden 256] [--json]

The policy is sb3-contrib's ``RecurrentActorCriticPolicy`` with its default sizes (an LSTM for the
actor and one for the critic). A rollout has random observations and actions, and episodes that end
with a given chance at every step. What is timed is what PPO does for each minibatch of whole
sequences: ``evaluate_actions`` and the backward pass of its loss. Three ways take turns:

- ``loop of nn.LSTM``: the policy as it comes, one call for every time step;
- ``loop of sg.LSTM``: the same loop with our layers;
- ``one call``: after ``steadygrad.integrations.stable_baselines3.whole_sequences(policy)``.

Times are CPU time of the process, with one thread; ratios are medians over turns. Gradients are
compared with those of the first way: the largest difference over the largest gradient of each
parameter.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium  # type: ignore[import-not-found]
import torch
from sb3_contrib.common.recurrent.policies import (  # type: ignore[import-not-found]
    RecurrentActorCriticPolicy,
)
from sb3_contrib.common.recurrent.type_aliases import RNNStates  # type: ignore[import-not-found]
from torch import Tensor

from steadygrad.integrations.stable_baselines3 import whole_sequences


@dataclass(frozen=True)
class Found:
    """What one size gave.

    Attributes:
        milliseconds: Median CPU time of each way.
        ratio: How many times as long each way takes as one call (median of the pairs).
        error: Largest relative difference of a gradient from that of the policy as it comes.
    """

    steps: int
    envs: int
    hidden: int
    episodes: int
    milliseconds: dict[str, float]
    ratio: dict[str, float]
    error: dict[str, float]


def rollout(steps: int, envs: int, hidden: int, ends: float) -> tuple[Any, ...]:
    """Observations, actions, states, episode starts and advantages; sequences one after another."""
    rows = steps * envs
    states = tuple(torch.randn(1, envs, hidden) for _ in range(4))
    starts = (torch.rand(rows) < ends).float()
    return (
        torch.randn(rows, 4),
        torch.randint(2, (rows,)),
        RNNStates(states[:2], states[2:]),
        starts,
        torch.randn(rows),
    )


def loss(policy: Any, given: tuple[Any, ...]) -> Tensor:
    """PPO's three terms, at the old policy."""
    *seen, advantages = given
    values, log_prob, entropy = policy.evaluate_actions(*seen)
    surrogate = -(advantages * (log_prob - log_prob.detach()).exp()).mean()
    return surrogate + 0.5 * (values.flatten() - advantages).square().mean() - 0.01 * entropy.mean()


def measured(steps: int, envs: int, hidden: int, ends: float, seconds: float) -> Found:
    torch.manual_seed(0)
    space = gymnasium.spaces
    policy = RecurrentActorCriticPolicy(
        space.Box(-1, 1, (4,)), space.Discrete(2), lambda _: 3e-4, lstm_hidden_size=hidden
    )
    looped = copy.deepcopy(policy)
    whole_sequences(looped)
    del looped._process_sequence  # the policy's own loop, with our layers
    ways = {
        "loop of nn.LSTM": policy,
        "loop of sg.LSTM": looped,
        "one call": whole_sequences(copy.deepcopy(policy)),
    }
    given = rollout(steps, envs, hidden, ends)
    gradients: dict[str, list[Tensor]] = {}
    for name, own in ways.items():
        loss(own, given).backward()
        gradients[name] = [p.grad.clone() for p in own.parameters() if p.grad is not None]
    wanted = gradients["loop of nn.LSTM"]
    error = {
        name: max(
            float((a - b).abs().max() / b.abs().max()) for a, b in zip(g, wanted, strict=True)
        )
        for name, g in gradients.items()
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times["one call"]) < 5:
        for name, own in ways.items():
            own.zero_grad()
            began = time.process_time()
            loss(own, given).backward()
            times[name].append(time.process_time() - began)
    pairs = {
        n: [a / b for a, b in zip(t, times["one call"], strict=True)] for n, t in times.items()
    }
    return Found(
        steps,
        envs,
        hidden,
        int(given[3].sum()),
        {name: 1e3 * statistics.median(t) for name, t in times.items()},
        {name: statistics.median(r) for name, r in pairs.items()},
        error,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--ends", type=float, default=0.02, help="chance that an episode ends")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = [measured(args.steps, args.envs, h, args.ends, args.seconds) for h in args.hidden]
    if args.json:
        print(json.dumps([asdict(f) for f in found], indent=2))
        return
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread")
    for f in found:
        print(f"{f.steps} steps x {f.envs} rows, {f.hidden} units, {f.episodes} episode starts")
        for name, value in f.milliseconds.items():
            print(
                f"  {name:16} {value:8.1f} ms  {f.ratio[name]:5.2f} x one call  "
                f"gradients differ by {f.error[name]:.1e}"
            )


if __name__ == "__main__":
    main()
