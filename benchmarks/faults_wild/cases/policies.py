"""Recurrent policies and values, as reinforcement learning trains them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.faults_wild.case import Training, case

MASKS = "https://github.com/hill-a/stable-baselines/issues/263"
SUMMARY = "https://github.com/ikostrikov/pytorch-a2c-ppo-acktr-gail/issues/193"
STORED = "https://github.com/hill-a/stable-baselines/issues/759"
NERO = "https://github.com/MarcoMeter/neroRL/issues/9"
MEMORY = "https://github.com/Farama-Foundation/Minigrid/issues/122"
STEPS, ROWS, EPISODE = 32, 8, 12


class Policy(nn.Module):
    """A GRU, called one step at a time so that episodes may end, an actor and a critic.

    Args:
        mode: How the state is handled: ``"masked"``, ``"inverted"``, ``"stored"`` or ``"whole"``.
    """

    def __init__(self, mode: str, hidden: int = 24) -> None:
        super().__init__()
        self.gru, self.mode = nn.GRU(4, hidden), mode
        self.actor, self.critic = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, x: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(1, x.shape[1], self.gru.hidden_size)
        if self.mode == "whole":
            out, _ = self.gru(x, h)
            return self.actor(out), self.critic(out)[..., 0]
        outs: list[Tensor] = []
        for row, ends in zip(x, done, strict=True):
            keep = ends if self.mode == "inverted" else 1 - ends
            h = h * keep[None, :, None]
            if self.mode == "stored":  # the states of the rollout, by value
                h = h.detach()
            y, h = self.gru(row[None], h)
            outs.append(y)
        out = torch.cat(outs)
        return self.actor(out), self.critic(out)[..., 0]


class Memory(Training):
    """The cue at the start of an episode says which action is right at its end."""

    def __init__(self, mode: str, lr: float = 3e-3) -> None:
        model = Policy(mode)
        super().__init__(model, torch.optim.Adam(model.parameters(), lr))
        self.clip = 0.5

    def loss(self) -> Tensor:
        start = torch.randint(EPISODE, (ROWS,))
        at = (torch.arange(STEPS)[:, None] + start) % EPISODE
        cue = torch.randint(2, (STEPS, ROWS)).float() * 2 - 1
        cue[at != 0] = 0
        x = 0.1 * torch.randn(STEPS, ROWS, 4)
        x[..., 0] += cue
        x[..., 1] += (at == EPISODE - 1).float()
        wanted = torch.zeros(STEPS, ROWS)
        held = torch.zeros(ROWS)
        for t in range(STEPS):
            held = torch.where(at[t] == 0, cue[t], held)
            wanted[t] = held
        scores, values = self.model(x, (at == 0).float())
        action = torch.distributions.Categorical(logits=scores)
        taken = action.sample()
        reward = torch.where(at == EPISODE - 1, (2 * taken - 1) * wanted, 0.0)
        gain = reward - values
        chosen = -(action.log_prob(taken) * gain.detach())
        return (chosen + 0.5 * gain**2 - 0.01 * action.entropy()).mean() * EPISODE


@case(SUMMARY, kind="healthy", lag=11, steps=150, name="masked_by_done", args=("masked",))
@case(
    MASKS, "recurrence-ignored", "mask-inverted", "truncated", lag=11, steps=150,
    name="done_mask_inverted", args=("inverted",), twin="masked_by_done",
)  # fmt: skip
@case(STORED, "truncated", lag=11, steps=150, name="stored_states_of_a_rollout", args=("stored",))
@case(NERO, kind="odd", lag=11, steps=200, name="whole_sequences_of_a_policy", args=("whole",))
def policy(mode: str) -> Training:
    return Memory(mode)


@case(MEMORY, "lr-high", "saturated", "nonfinite", lag=11, steps=150)
def policy_that_collapses() -> Training:
    return Memory("masked", 1.0)


class Resetting(Policy):
    """Starts from zeros at every step but the last of an episode, its sign being wrong."""

    def forward(self, x: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(1, x.shape[1], self.gru.hidden_size)
        outs: list[Tensor] = []
        for row, ends in zip(x, done, strict=True):
            h = torch.where(ends[None, :, None] > 0, h, torch.zeros_like(h))
            y, h = self.gru(row[None], h)
            outs.append(y)
        out = torch.cat(outs)
        return self.actor(out), self.critic(out)[..., 0]


@case(
    SUMMARY, "recurrence-ignored", "mask-inverted", "truncated", lag=11, steps=150,
)  # fmt: skip
def reset_where_not_done() -> Training:
    training = Memory("masked")
    training.model = Resetting("masked")
    training.optimizer = torch.optim.RMSprop(training.model.parameters(), 2e-3)
    return training


class Values(Training):
    """Recurrent Q-learning from stored sequences, with a burn-in without gradients.

    Args:
        burn_in: Steps.
    """

    def __init__(self, burn_in: int) -> None:
        model = nn.ModuleDict({"lstm": nn.LSTM(4, 24), "head": nn.Linear(24, 2)})
        super().__init__(model, torch.optim.Adam(model.parameters(), 3e-3))
        self.burn_in = burn_in

    def loss(self) -> Tensor:
        x = torch.randn(24, 16, 4)
        y = (x[-4, :, 0] > 0).long()
        with torch.no_grad():
            _, state = self.model["lstm"](x[: self.burn_in])
        out, _ = self.model["lstm"](x[self.burn_in :], state)
        return F.mse_loss(
            self.model["head"](out[-1]).gather(1, y[:, None])[:, 0], x[-4, :, 0].abs()
        )


@case(STORED, kind="odd", lag=3)
def burn_in_without_gradients() -> Training:
    return Values(12)
