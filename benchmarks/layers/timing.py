"""Two things timed in turn, in one process: a machine whose speed drifts slows both."""

import math
import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]


def timed(run: Work) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def pairs(ours: Work, peer: Work, rounds: int, repeat: int = 1) -> dict[str, float]:
    """Medians of both in milliseconds, and of the ratio pair by pair with its quartiles."""

    def block(run: Work) -> float:
        return sum(timed(run) for _ in range(repeat)) / repeat

    ours(), peer(), ours(), peer()  # pyright: ignore[reportUnusedExpression]
    a, b = zip(*[(block(ours), block(peer)) for _ in range(rounds)], strict=True)
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    return {
        "ours_ms": 1e3 * statistics.median(a),
        "peer_ms": 1e3 * statistics.median(b),
        "ratio": statistics.median(ratios),
        "low": ratios[len(ratios) // 4],
        "high": ratios[-1 - len(ratios) // 4],
    }


def mean(values: list[float]) -> float:
    """Geometric mean."""
    return math.exp(statistics.fmean(map(math.log, values)))


def slope(x: list[float], y: list[float]) -> float:
    """Of the line of least squares through the logarithms."""
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    center = statistics.fmean(a)
    along = sum((v - center) ** 2 for v in a)
    return sum((v - center) * w for v, w in zip(a, b, strict=True)) / along
