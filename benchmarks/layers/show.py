"""The result as text."""

from collections.abc import Iterator
from typing import Any

from benchmarks.layers.timing import mean

NAMES = ("LSTM", "GRU", "RNN")


def lines(result: dict[str, Any]) -> Iterator[str]:
    yield result["machine"]
    yield result["versions"]
    yield f"ratios ours / peer, median of {result['rounds']} pairs (quartiles); below 1: faster"
    for part in result["against_torch"]:
        yield from _layers(part)
    yield from _cells(result)
    growth, stream = result["growth"], result["stream"]
    yield "\nLSTM, B 16, I 32, H 128, ms of a training step against T"
    yield (
        "  "
        + ", ".join(f"{t}: {ms:.2f}" for t, ms in zip(growth["steps"], growth["ms"], strict=True))
        + f"; log-log slope {growth['slope']:.2f}"
    )
    yield (
        "\nLSTM, MB of a training step: the layer's own at its peak, which is the growth of the "
        "process's peak without\nthe output and its gradient; in brackets that growth whole, and "
        "what is kept between the two ways"
    )
    for shape, found in result["memory"].items():
        yield f"  {shape}: " + ", ".join(
            f"{who} {m['own_mb']:.0f} ({m['peak_mb']:.0f}, {m['kept_mb']:.0f})"
            for who, m in found.items()
        )
    yield (
        f"\none streamed step, B 1, I 32, H 128: {stream['stream_us']:.1f} us, nn.LSTMCell "
        f"{stream['cell_us']:.1f} us, ratio {stream['ratio']:.2f}"
    )


def _layers(part: dict[str, Any]) -> Iterator[str]:
    yield f"\n{part['threads']} thread{'s' * (part['threads'] > 1)}"
    yield (
        f"{'layer':<6}{'T, B, I, H':<20}{'train ms':>9}{'ratio':>18}{'forward':>9}"
        f"{'taps':>6}{'value':>7}{'norm':>6}{'floor':>7}{'GF/s':>6}"
    )
    for row in part["layers"]:
        t = row["train"]
        yield (
            f"{row['layer']:<6}{', '.join(map(str, row['shape'])):<20}{t['ours_ms']:>9.2f}"
            f"{t['ratio']:>6.2f} ({t['low']:.2f}-{t['high']:.2f}){row['forward']['ratio']:>8.2f}"
            f"{row['taps']['ratio']:>6.2f}{row['clip_value']['ratio']:>7.2f}"
            f"{row['clip_norm']['ratio']:>6.2f}{row['floor']:>7.0%}{row['gflops']:>6.0f}"
        )
    for name in NAMES:
        rows = [r for r in part["layers"] if r["layer"] == name]
        means = {
            key: mean([r[key]["ratio"] for r in rows])
            for key in ("train", "forward", "taps", "clip_value", "clip_norm")
        }
        yield f"{name}, geometric means: " + ", ".join(f"{k} {v:.2f}" for k, v in means.items())
    yield f"packed LSTM, lengths 10 to 100: {part['packed']['ratio']:.2f} of nn.LSTM"


def _cells(result: dict[str, Any]) -> Iterator[str]:
    yield (
        "\ntraining step against the same cell as a Python loop under autograd, and with its step "
        "compiled by torch.compile;\nT 100, B 16, I = H = 128; first call: tracing, building and "
        "one training step, cold cache"
    )
    yield (
        f"{'cell':<18}{'ours ms':>8}{'loop':>7}{'compiled':>10}{'compile s':>11}"
        f"{'first call s':>14}"
    )
    for row, first in zip(result["cells"], result["first_call_s"], strict=True):
        compiled = row["compiled"]
        peer = f"{compiled['ratio']:>10.3f}{row['compile_s']:>11.1f}" if compiled else f"{'-':>21}"
        yield (
            f"{row['cell']:<18}{row['loop']['ours_ms']:>8.2f}{row['loop']['ratio']:>7.3f}"
            f"{peer}{first:>14.2f}" + (f"  ({row['refused']})" if "refused" in row else "")
        )
