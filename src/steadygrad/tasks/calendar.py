"""Calendar cycles for a given distance between rows, as periods and as inputs."""

import numpy as np

DAY, YEAR = 86400.0, 365.2425 * 86400.0


def calendar_periods(step: float | None) -> list[int]:
    """Return the cycles of the calendar in rows, shortest first: a day, a week, a year.

    Args:
        step: Usual distance between two rows, in seconds.
    """
    if step is None or step <= 0:
        return []
    cycles = [round(length / step) for length in (DAY, 7 * DAY, YEAR)]
    return [cycle for cycle in cycles if cycle > 1]


def calendar_inputs(
    dates: np.ndarray, train_rows: int, step: float | None
) -> dict[str, np.ndarray]:
    """Return sine and cosine of the time of day and of the year, where the rows resolve them.

    The time of year needs three years of training rows: with fewer it merely numbers the weeks of
    the training part, which a model memorises.

    Args:
        dates: ``datetime64[us]``, in order within each series.
        train_rows: Rows of the training part of the first series.
        step: Usual distance between two rows, in seconds.
    """
    if step is None:
        return {}
    train_span = float((dates[train_rows - 1] - dates[0]) / np.timedelta64(1, "s"))
    cycles = [
        name
        for name, length, known in (
            ("day", DAY, train_span >= 7 * DAY),
            ("year", YEAR, train_span >= 3 * YEAR),
        )
        if known and 0 < step <= length / 4
    ]
    return {name: v for name, v in calendar_values(dates).items() if name[4:-1] in cycles}


def calendar_values(dates: np.ndarray) -> dict[str, np.ndarray]:
    """Return all inputs derived from dates, by name."""
    seconds = dates.astype("datetime64[us]").astype(np.int64) / 1e6
    inputs: dict[str, np.ndarray] = {}
    for name, length in (("day", DAY), ("year", YEAR)):
        phase = 2 * np.pi * (seconds % length) / length
        inputs[f"sin({name})"], inputs[f"cos({name})"] = np.sin(phase), np.cos(phase)
    return inputs
