"""What a clip costs: ours against torch.nn.utils.clip_grad_norm_, in turn, in one process.

    python -m benchmarks.clips [--threads 2] [--rounds 41] [--json]

Forty tensors are ten layers of an LSTM of 256 features, two thousand are five hundred of 32. The
gradient is longer than the bound, nothing is sharded. Ratios are taken pair by pair, which of the
two comes first changes from pair to pair; the median is printed with its quartiles. Ours includes
what torch's does not do: the norm after clipping, flags and counts. spam-clip meets no spike, as
in most steps; a tensor with one is looked at and clipped, which costs more. On forty tensors
torch's clip runs at one of two speeds, 0.8 or 1.8 ms, that change from run to run; judge those
rows by ours.
"""

import argparse
import json
import platform
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from benchmarks.layers.timing import pairs
from steadygrad import remedies
from steadygrad.remedies import Remedy

MODELS = {40: (10, 256), 2000: (500, 32)}
WARM = 120  # steps before the clock starts: histories fill, warm-ups end
CLIPS: dict[str, tuple[Remedy, float]] = {
    "clip-norm": (remedies.ClipNorm(), 1.05),
    "clip-norm, norm_type=inf": (remedies.ClipNorm(norm_type=float("inf")), 1.3),
    "clip-norm, scope=layer": (remedies.ClipNorm(scope="layer"), 1.3),
    "clip-norm, scope=parameter": (remedies.ClipNorm(scope="parameter"), 1.3),
    "clip-value": (remedies.ClipValue(), 1.3),
    "nonfinite, action=skip": (remedies.Nonfinite(), 1.3),
    "nonfinite, action=zero": (remedies.Nonfinite("zero"), 1.3),
    "agc": (remedies.AGC(), 1.3),
    "auto-clip": (remedies.AutoClip(), 1.3),
    "auto-clip, scope=parameter": (remedies.AutoClip(scope="parameter"), 1.3),
    "z-clip": (remedies.ZClip(), 1.3),
    "spam-clip, with Adam": (remedies.SpamClip(), 1.3),
    "ada-gc": (remedies.AdaGC(), 1.3),
    "skip-spike": (remedies.SkipSpike(), 1.3),
}


def model_of(count: int) -> nn.Module:
    """A stack of LSTM layers with ``count`` parameters and random gradients."""
    torch.manual_seed(0)
    layers, width = MODELS[count]
    model = nn.ModuleList(nn.LSTM(width, width) for _ in range(layers))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def row(name: str, count: int, rounds: int) -> dict[str, Any]:
    """One clip on one model, against torch's clip by norm."""
    remedy, bound = CLIPS[name]
    model = model_of(count)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-9)
    optimizer.step()  # so that Adam has its moments
    treat = remedy.begin(model, optimizer)
    for _ in range(WARM):
        treat()
    found: dict[str, Any] = pairs(treat, lambda: clip_grad_norm_(parameters, 1.0), rounds)
    found["torch_ms"] = found.pop("peer_ms")
    if name == "clip-value":
        value = pairs(treat, lambda: clip_grad_value_(parameters, 1.0), rounds)
        found["to_clip_grad_value_"] = value["ratio"]
    return {"clip": name, "tensors": count, "bound": bound, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [row(name, count, args.rounds) for count in MODELS for name in CLIPS]
    setup = f"torch {torch.__version__}, {args.threads} threads, {platform.processor() or 'CPU'}"
    if args.json:
        print(json.dumps({"setup": setup, "rows": rows}, indent=2))
        return
    print(f"time of a clip over that of torch.nn.utils.clip_grad_norm_; {setup}\n")
    print(f"{'tensors':>7}  {'clip':<28} {'ours ms':>8} {'torch ms':>8}  ratio (quartiles)   bound")
    for r in rows:
        spread = f"{r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
        mark = "" if r["ratio"] <= r["bound"] else "  above"
        print(
            f"{r['tensors']:>7}  {r['clip']:<28} {r['ours_ms']:>8.2f} {r['torch_ms']:>8.2f}  "
            f"{spread:<19} {r['bound']}{mark}"
        )
    for r in rows:
        if "to_clip_grad_value_" in r:
            ratio = r["to_clip_grad_value_"]
            print(f"clip-value over clip_grad_value_, {r['tensors']} tensors: {ratio:.2f}")


if __name__ == "__main__":
    main()
