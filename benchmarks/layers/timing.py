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
    """Medians of both in milliseconds, and of the ratio pair by pair with its quartiles.

    Each is the first of a pair as often as the second: whichever is first also pays for what lies
    between two pairs, of half a millisecond 0.3 percent.
    """

    def block(run: Work) -> float:
        return sum(timed(run) for _ in range(repeat)) / repeat

    def both(first: Work, second: Work) -> tuple[float, float]:
        return block(first), block(second)

    ours(), peer(), ours(), peer()  # pyright: ignore[reportUnusedExpression]
    found = [both(peer, ours)[::-1] if i % 2 else both(ours, peer) for i in range(rounds)]
    a, b = zip(*found, strict=True)
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
