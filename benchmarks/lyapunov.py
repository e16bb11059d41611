"""How long a full Lyapunov spectrum takes, beside `torch.autograd.functional.jacobian` with QR.

Run ``python -m benchmarks.lyapunov``. Per cell both are timed in turns on the same network and
input, in float64, one sequence; the plain way on its first ``STEPS`` steps, for it costs the same
at each. The exponents of the two must agree before a time is printed.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.flow import lyapunov_exponents

FEATURES = 8
STEPS = 50


def plain(layer: nn.Module, x: Tensor, vectorize: bool) -> Tensor:
    """The recipe as one would write it: one Jacobian by autograd and one QR per step."""
    kinds: dict[Any, Any] = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}
    hidden = int(layer.hidden_size)  # type: ignore[arg-type]
    cell = kinds[type(layer)](FEATURES, hidden, dtype=torch.float64)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    size = hidden * (2 if isinstance(layer, nn.LSTM) else 1)

    def step(state: Tensor, now: Tensor) -> Tensor:
        parts: Any = state[None].split(hidden, 1)
        made = cell(now, parts if len(parts) > 1 else parts[0])
        return torch.cat(made, 1)[0] if isinstance(made, tuple) else made[0]

    state = torch.zeros(size, dtype=torch.float64)
    q, logs = torch.eye(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for now in x:
        taken = partial(step, now=now)
        jacobian: Any = torch.autograd.functional.jacobian(taken, state, vectorize=vectorize)
        q, r = torch.linalg.qr(jacobian @ q)
        logs += r.diagonal().abs().log()
        state = step(state, now).detach()
    return (logs / len(x)).sort(descending=True).values


def seconds(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Time one call."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def measure(kind: type[nn.Module], steps: int, hidden: int, repeats: int) -> None:
    """Print one line for one kind of layer."""
    torch.manual_seed(0)
    layer = kind(FEATURES, hidden, dtype=torch.float64)
    x = torch.randn(steps, 1, FEATURES, dtype=torch.float64)
    with torch.no_grad():
        short = lyapunov_exponents(layer, x[:STEPS])
    torch.testing.assert_close(short, plain(layer, x[:STEPS], True), rtol=0, atol=1e-5)
    ours, one_by_one, vectorised = [], [], []
    for _ in range(repeats):
        with torch.no_grad():
            ours.append(seconds(lambda: lyapunov_exponents(layer, x))[0])
        for times, vectorize in ((one_by_one, False), (vectorised, True)):
            took, _ = seconds(lambda v=vectorize: plain(layer, x[:STEPS], v))
            times.append(took * steps / STEPS)
    ratios = [a / b for a, b in zip(one_by_one, ours, strict=True)]
    fast = [a / b for a, b in zip(vectorised, ours, strict=True)]
    print(
        f"{kind.__name__:<5} {median(ours):>9.3f} s {median(one_by_one):>10.2f} s "
        f"{median(ratios):>7.1f} ({min(ratios):.1f} to {max(ratios):.1f}) "
        f"{median(vectorised):>10.2f} s {median(fast):>7.1f}"
    )


def main() -> None:
    """Time all kinds of layers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(
        f"Full Lyapunov spectrum, T = {options.steps}, H = {options.hidden}, B = 1, float64, "
        f"{torch.get_num_threads()} threads, median of {options.repeats} pairs, seed 0, torch "
        f"{torch.__version__}"
    )
    print("cell    steadygrad    jacobian+QR   ratio (range)     vectorised+QR   ratio")
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        measure(kind, options.steps, options.hidden, options.repeats)


if __name__ == "__main__":
    main()
