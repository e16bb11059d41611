"""How model, loss and optimiser hang together."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.faults_wild.case import Tell, Training, case
from benchmarks.faults_wild.models import LastStep
from benchmarks.faults_wild.tasks import recalled

FROZEN = "https://github.com/pytorch/pytorch/issues/7722"
UNFREEZE = "https://github.com/fastai/fastai/issues/2397"
FILTER = "https://github.com/OpenNMT/OpenNMT-py/issues/192"
REPLACED = "https://github.com/chemprop/chemprop/pull/665"
ROLLOUT = "https://github.com/ikostrikov/pytorch-a2c-ppo-acktr-gail/issues/82"
LIST = "https://discuss.pytorch.org/t/loss-not-decreasing-in-lstm-network/159152"
UNREGISTERED = (
    "https://theflyingbirds.in/blog/pytorch-mysteries-lets-understand-nnmodule-nnparameter-modulelist-"
    "sequential-and-the-classic-layers-linear-activations-dropout"
)
EMBEDDING = "https://github.com/HazyResearch/metal/issues/95"
TARGET = "https://github.com/Stable-Baselines-Team/stable-baselines3-contrib/issues/265"


class Recall(Training):
    """The sign four steps back; what is wrong is done by whoever makes it."""

    def __init__(self, model: nn.Module | None = None, optimizer: Any = None) -> None:
        model = LastStep("lstm") if model is None else model
        made = torch.optim.Adam(model.parameters(), 3e-3) if optimizer is None else optimizer
        super().__init__(model, made)

    def loss(self) -> Tensor:
        x, y = recalled(12, 4)
        return F.cross_entropy(self.model(x), y)


@case(UNFREEZE, "frozen-weights", lag=4)
def encoder_never_unfrozen() -> Training:
    model = LastStep("lstm")
    model.rnn.requires_grad_(False)
    return Recall(model)


@case(FROZEN, "frozen-weights", lag=4)
def recurrent_weights_frozen() -> Training:
    model = LastStep("gru")
    for name, p in model.rnn.named_parameters():
        p.requires_grad_("hh" not in name)
    return Recall(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.3))


@case(FILTER, "not-in-optimizer", lag=4)
def optimizer_of_the_head() -> Training:
    model = LastStep("lstm")
    return Recall(model, torch.optim.Adam(model.fc.parameters(), 3e-3))


@case(FILTER, "not-in-optimizer")
def optimizer_without_the_recurrent_part() -> Training:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj, self.main = nn.Linear(4, 8), LastStep("gru", 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.main(self.proj(x))

    model = Two()
    held = [*model.proj.parameters(), *model.main.fc.parameters()]
    return Recall(model, torch.optim.AdamW(held, 3e-3))


@case(REPLACED, "stale-optimizer", "not-in-optimizer", lag=4, twin="optimizer_made_last")
def layer_replaced_after_the_optimizer() -> Training:
    model = LastStep("lstm")
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.rnn = nn.LSTM(4, 24)
    return Recall(model, optimizer)


@case(REPLACED, "stale-optimizer", "not-in-optimizer", lag=4)
def model_copied_after_the_optimizer() -> Training:
    model = LastStep("gru")
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    return Recall(copy.deepcopy(model), optimizer)


@case(REPLACED, kind="healthy", lag=4)
def optimizer_made_last() -> Training:
    model = LastStep("lstm")
    model.rnn = nn.LSTM(4, 24)
    return Recall(model)


class Detached(LastStep):
    """Takes the values of its layer out of the graph."""

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.fc(out[-1].detach())


class WithoutGradients(LastStep):
    """Runs its layer without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            out, _ = self.rnn(x)
        return self.fc(out[-1])


@case(ROLLOUT, "detached", lag=4)
def features_taken_by_value() -> Training:
    return Recall(Detached("lstm"))


@case(ROLLOUT, "detached")
def features_without_gradients() -> Training:
    return Recall(WithoutGradients("gru"))


@case(UNREGISTERED, "not-in-optimizer", lag=4)
def layers_in_a_plain_list() -> Training:
    """The model does not know its recurrent layers, nor does the optimiser."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.LSTM(4, 24), nn.LSTM(24, 24)]
            self.fc = nn.Linear(24, 2)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x, _ = layer(x)
            return self.fc(x[-1])

    return Recall(Listed())


@case(UNREGISTERED, "not-in-optimizer", lag=4)
def layers_in_a_plain_dict() -> Training:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = {"recurrent": nn.LSTM(4, 24)}
            self.proj, self.fc = nn.Linear(24, 24), nn.Linear(24, 2)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.parts["recurrent"](x)
            return self.fc(torch.relu(self.proj(out[-1])))

    return Recall(Kept())


@case(LIST, "not-in-optimizer", lag=4)
def second_layer_in_a_plain_list() -> Training:
    """One recurrent layer is known, the one below it is not."""

    class Half(LastStep):
        def __init__(self) -> None:
            super().__init__("gru", 24)
            self.below = [nn.GRU(4, 24)]

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.below[0](x)[0])

    return Recall(Half())


@case(EMBEDDING, kind="odd", lag=3)
def frozen_embedding() -> Training:
    """Pre-trained vectors that are kept as they are, on purpose."""

    class Model(LastStep):
        def __init__(self) -> None:
            super().__init__("lstm", 8)
            self.embed = nn.Embedding(50, 8)
            self.embed.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.embed(x))

    class Words(Recall):
        def loss(self) -> Tensor:
            x = torch.randint(50, (10, 16))
            return F.cross_entropy(self.model(x), (x[-2] % 2))

    return Words(Model())


class WithTarget(Training):
    """A recurrent value network with its target, which follows slowly and is not trained."""

    def __init__(self) -> None:
        model = nn.ModuleDict({"online": LastStep("gru", 4, 3), "target": LastStep("gru", 4, 3)})
        model["target"].load_state_dict(model["online"].state_dict())
        super().__init__(model, torch.optim.Adam(model["online"].parameters(), 2e-3))
        self.count = 0

    def loss(self) -> Tensor:
        x, y = recalled(10, 2)
        with torch.no_grad():
            ahead = self.model["target"](x).max(1).values
        now = self.model["online"](x).gather(1, y[:, None])[:, 0]
        return F.smooth_l1_loss(now, x[-1, :, 1] + 0.5 * ahead)

    def step(self, tell: Tell) -> float:
        self.count += 1
        if self.count % 20 == 0:
            self.model["target"].load_state_dict(self.model["online"].state_dict())
        return super().step(tell)


@case(TARGET, kind="odd", lag=2)
def target_network() -> Training:
    return WithTarget()


@case(UNFREEZE, kind="odd", lag=4)
def unfrozen_in_groups() -> Training:
    """Two groups of parameters, the recurrent one at a tenth of the rate."""
    model = LastStep("lstm")
    groups = [
        {"params": model.rnn.parameters(), "lr": 3e-3},
        {"params": model.fc.parameters(), "lr": 3e-2},
    ]
    return Recall(model, torch.optim.Adam(groups))
