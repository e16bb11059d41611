"""Which networks learn, by how much of the gradient comes through: the thresholds of four faults.

Every network is trained on the sign of one input, through many time steps or through many layers,
and is labelled by the outcome alone: it has learned if it answers more than three quarters of the
held-out examples rightly within its steps. What `steadygrad.diagnose` measures of the untrained
network is set beside it. Thresholds are read off the calibration part; the other part has other
sizes, lags, gains and seeds, and is for a look under thresholds that no longer change. What is
trained is kept and not done again; the table says how much of each part there is.

    python -m benchmarks.whole_way            # train what is missing, measure, print the table
    python -m benchmarks.whole_way --table    # print what is committed
"""

import argparse
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from steadygrad.diagnosis import diagnose
from steadygrad.faults import LayerCase, Thresholds

RESULTS = Path(__file__).parent / "results"
CASES, RESULT = RESULTS / "whole_way.jsonl", RESULTS / "whole_way.txt"
BATCH, CHECK = 32, 50
Part = Literal["calibration", "held-out"]
PARTS: tuple[Part, ...] = ("calibration", "held-out")


@dataclass(frozen=True)
class Setting:
    """One network and its training.

    Args:
        part: Whether thresholds were read off it.
        asks: What is to be learned has to come through ``"time"`` or through ``"depth"``.
        kind: ``lstm``, ``gru``, ``rnn``; ``mlp-tanh``, ``mlp-sigmoid``, ``mlp-relu``, ``conv``.
        layers: In a stack.
        hidden: Units of each layer.
        lag: Steps from the input that decides to the last one.
        forget: Bias of an LSTM's forget gate, of a GRU's update gate; None as torch starts it.
        output: Bias of an LSTM's output gate; None as torch starts it.
        gain: What the recurrent weights (of a feed-forward network, all) are multiplied by.
        orthogonal: Whether the recurrent weights are orthogonal, before the gain.
        both_ways: Whether the recurrence runs in both directions.
        residual: Whether each layer's input is added to its output.
        optimizer: ``"adam"``, or ``"sgd"`` with momentum 0.9.
        seed: Of weights and data.
        updates: Training steps at most.
    """

    part: Part
    asks: Literal["time", "depth"]
    kind: str
    layers: int = 1
    hidden: int = 24
    lag: int = 20
    forget: float | None = None
    output: float | None = None
    gain: float = 1.0
    orthogonal: bool = False
    both_ways: bool = False
    residual: bool = False
    optimizer: Literal["adam", "sgd"] = "adam"
    seed: int = 0
    updates: int = 600

    @property
    def key(self) -> str:
        """A hash of all options but the part."""
        text = json.dumps(asdict(self) | {"part": ""}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def but(self, **changes: object) -> Self:
        """The same with a few options changed."""
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]


def settings(part: Part) -> Iterator[Setting]:
    """All settings of one part."""
    first = part == "calibration"
    hidden, lags = (24, (20, 40)) if first else (32, (30,))
    for lag in lags:
        plain = Setting(part, "time", "lstm", hidden=hidden, lag=lag, seed=1 if first else 2)
        for forget in (None, -1.0, 1.0, 2.0, 4.0) if first else (None, 0.5, 1.5, 3.0, 6.0):
            yield plain.but(forget=forget)
        for gain in (1e-3, 2.0, 8.0) if first else (1e-2, 3.0, 12.0):
            yield plain.but(forget=5.0 if gain < 1 else None, gain=gain)
        yield plain.but(forget=6.0, gain=0.0)
        yield plain.but(forget=3.0, output=-6.0 if first else -4.0)
        yield plain.but(both_ways=True)
        for layers in (2, 4) if first else (3,):
            yield plain.but(layers=layers, forget=2.0)
            yield plain.but(layers=layers)
        if lag == 40:
            continue
        for forget in (None, 1.0, 3.0, 5.0) if first else (None, 2.0):
            yield plain.but(kind="gru", forget=forget)
        if first:
            yield plain.but(kind="gru", both_ways=True)
        for gain in (0.5, 0.8, 0.9, 1.0, 1.1) if first else (0.7, 0.85, 0.95):
            yield plain.but(kind="rnn", gain=gain, orthogonal=True)
        for gain in (1.0, 2.0, 4.0) if first else (1.7, 3.0):
            yield plain.but(kind="rnn", gain=gain)
    yield from _deep(part)


def _deep(part: Part) -> Iterator[Setting]:
    first = part == "calibration"
    seed = 3 if first else 4
    stack = Setting(part, "depth", "lstm", hidden=24 if first else 32, lag=7, seed=seed)
    for layers in (4, 8, 10, 12) if first else (6, 11):
        yield stack.but(layers=layers)
        if first and layers >= 8:
            yield stack.but(layers=layers, optimizer="sgd")
        if layers >= 11:
            yield stack.but(layers=layers, residual=True)
    wide = Setting(part, "depth", "mlp-tanh", hidden=32 if first else 48, lag=0, seed=seed)
    for layers in (10, 20) if first else (8, 16):
        for kind in ("mlp-tanh", "mlp-sigmoid", "mlp-relu", "conv"):
            yield wide.but(kind=kind, layers=layers)
        yield wide.but(kind="mlp-relu", layers=layers, gain=5.0 if first else 4.0)
        yield wide.but(kind="mlp-tanh", layers=layers, optimizer="sgd")


class Recurrent(nn.Module):
    """A stack, one module a layer, and a head on the last step."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[setting.kind]
        ways, hidden = 1 + setting.both_ways, setting.hidden
        self.residual = setting.residual
        self.layers = nn.ModuleList(
            kind(4 if i == 0 else ways * hidden, hidden, bidirectional=setting.both_ways)
            for i in range(setting.layers)
        )
        self.head = nn.Linear(ways * hidden, 1)
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                _start(setting, name, parameter)

    def forward(self, x: Tensor) -> Tensor:
        h: Any = None
        for layer in self.layers:
            y, h = layer(x)
            x = x + y if self.residual and x.shape == y.shape else y
        if self.layers[0].bidirectional:
            last = h[0] if isinstance(h, tuple) else h
            return self.head(torch.cat(list(last), -1))
        return self.head(x[-1])


@torch.no_grad()
def _start(setting: Setting, name: str, parameter: nn.Parameter) -> None:
    hidden = setting.hidden
    if name.startswith("weight_hh"):
        if setting.orthogonal:
            nn.init.orthogonal_(parameter)
        parameter.mul_(setting.gain)
    gates = {"lstm": ("", "forget", "", "output"), "gru": ("", "forget", ""), "rnn": ("",)}
    if name.startswith("bias_ih"):
        for index, gate in enumerate(gates[setting.kind]):
            value = getattr(setting, gate) if gate else None
            if value is not None:
                parameter[index * hidden : (index + 1) * hidden] = value


class FeedForward(nn.Module):
    """Layers of one kind, and a head."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.residual, self.is_conv = setting.residual, setting.kind == "conv"
        name = setting.kind.partition("-")[2] or "relu"
        self.act = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}[name]
        size, hidden = setting.layers, setting.hidden
        channels = hidden // 4
        self.layers = nn.ModuleList(
            nn.Conv1d(1 if i == 0 else channels, channels, 3, padding=1)
            if self.is_conv
            else nn.Linear(8 if i == 0 else hidden, hidden)
            for i in range(size)
        )
        self.head = nn.Linear(channels * 8 if self.is_conv else hidden, 1)
        with torch.no_grad():
            for layer in self.layers:
                layer.get_parameter("weight").mul_(setting.gain)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1) if self.is_conv else x
        for layer in self.layers:
            y = self.act(layer(x))
            x = x + y if self.residual and x.shape == y.shape else y
        return self.head(x.flatten(1))


def made(setting: Setting) -> nn.Module:
    """The network as it starts."""
    torch.manual_seed(setting.seed)
    kind = Recurrent if setting.kind in ("lstm", "gru", "rnn") else FeedForward
    return kind(setting)


def drawn(setting: Setting, generator: torch.Generator, rows: int) -> tuple[Tensor, Tensor]:
    """Noise, and the sign of the one number in it that decides."""
    if setting.kind in ("lstm", "gru", "rnn"):
        x = torch.randn(setting.lag + 1, rows, 4, generator=generator)
        return x, (x[0 if setting.asks == "time" else -1, :, 0] > 0).float()
    x = torch.randn(rows, 8, generator=generator)
    return x, (x[:, 0] > 0).float()


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy."""
    return nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(-1), y)


def learns(setting: Setting) -> tuple[bool, int]:
    """Whether the network has learned, and after how many updates; else how many it took."""
    model, generator = made(setting), torch.Generator().manual_seed(100 + setting.seed)
    held = drawn(setting, torch.Generator().manual_seed(7), 512)
    parameters = list(model.parameters())
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(parameters, 3e-3)
        if setting.optimizer == "adam"
        else torch.optim.SGD(parameters, 0.1, momentum=0.9)
    )
    for update in range(1, setting.updates + 1):
        loss = loss_of(model, *drawn(setting, generator, BATCH))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if update % CHECK == 0:
            with torch.no_grad():
                right = ((model(held[0]).squeeze(-1) > 0) == (held[1] > 0.5)).float().mean()
            if float(right) > 0.75:
                return True, update
    return False, setting.updates


def measured(setting: Setting) -> dict[str, float | None]:
    """What of the gradient comes through the network as it starts, as log10.

    ``kept`` is what is left at the lag, ``peak`` the largest growth in time, ``least`` and ``most``
    the shares of the layers that least and most reaches.
    """
    model = made(setting)
    x, y = drawn(setting, torch.Generator().manual_seed(7), BATCH)
    lag = setting.lag if setting.asks == "time" else None
    found = diagnose(model, lambda: loss_of(model, x, y), lag)
    cases = [LayerCase(flow, setting.lag, found.thresholds) for flow in found.flow.values()]
    kept = [case.kept for case in cases if case.kept is not None]
    peaks = [case.peak[1] for case in cases if case.peak is not None]
    return {
        # The two directions of a layer are two ways to the same input.
        "kept": max(kept, default=None),
        "peak": max(peaks, default=None),
        "least": min((d.lowest[1] for d in found.depths), default=None),
        "most": max((d.largest[1] for d in found.depths), default=None),
    }


def run() -> None:
    """Train and measure what is missing, and append each network as it is done."""
    done = {row["key"] for row in _read()}
    with CASES.open("a", encoding="utf-8") as file:
        for part in PARTS:
            for setting in settings(part):
                if setting.key in done:
                    continue
                learned, updates = learns(setting)
                row = {"key": setting.key, **asdict(setting), "learned": learned}
                file.write(json.dumps(row | {"updates": updates, **measured(setting)}) + "\n")
                file.flush()


def _read() -> list[dict[str, Any]]:
    if not CASES.exists():
        return []
    with CASES.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


BOUNDS = {
    "kept": (-8, -6, -5, -4, -3.5, -3, -2, -1, 0.1),
    "peak": (-0.1, 0.5, 1, 1.5, 2, 2.5, 3, 4, 99),
    "least": (-30, -12, -8, -7, -6, -5, -4, -3, -1, 0.1),
    "most": (-0.1, 1, 2, 3, 4, 6, 99),
}


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """How many networks learned, by what came through; and what the thresholds make of it."""
    for part in PARTS:
        here, planned = [row for row in found if row["part"] == part], len(list(settings(part)))
        learned = sum(row["learned"] for row in here)
        yield f"{part}: {len(here)} of {planned} networks trained, {learned} learned"
        for name, asks in (
            ("kept", "time"),
            ("peak", "time"),
            ("least", "depth"),
            ("most", "depth"),
        ):
            groups = [r for r in here if r["asks"] == asks and r[name] is not None]
            for optimizer in ("adam", "sgd") if name == "least" else ("",):
                those = [r for r in groups if optimizer in ("", r["optimizer"])]
                counts = []
                low = -1e9
                for bound in BOUNDS[name]:
                    inside = [r for r in those if low <= r[name] < bound]
                    if inside:
                        counts.append(
                            f"<{bound:g}: {sum(r['learned'] for r in inside)}/{len(inside)}"
                        )
                    low = bound
                yield f"  {name:6}{optimizer:5} learned/all  " + "  ".join(counts)
        yield "  " + _scores(here)


def _scores(found: list[dict[str, Any]]) -> str:
    limits = Thresholds()
    wrong, missed, right = 0, 0, 0
    for row in found:
        low = limits.vanishing_depth if row["optimizer"] == "adam" else limits.vanishing_depth_plain
        accused = _beyond(row["peak"], limits.exploding) or _below(row["least"], low)
        accused |= _beyond(row["most"], limits.exploding_depth)
        accused |= row["asks"] == "time" and _below(row["kept"], limits.vanishing)
        wrong += accused and row["learned"]
        missed += not accused and not row["learned"]
        right += accused != row["learned"]
    return f"right {right}, accused though it learned {wrong}, missed {missed}"


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < math.log10(limit)


def _beyond(value: float | None, limit: float) -> bool:
    return value is not None and value > math.log10(limit)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print what is committed")
    if not parser.parse_args().table:
        torch.set_num_threads(1)
        run()
    text = "\n".join(table(_read()))
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
