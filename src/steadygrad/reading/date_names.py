"""What the name of a column says of dates and of times of day."""

import re

NAMES = re.compile(
    r"date|datum|fecha|^ds$|data$|data[ _]|time|zeit|stamp|^ts$|unix|epoch|year|jahr|année|annee"
    r"|^año|^ano$"
    r"|дата|время|год|日期|时间|時間|日付|年月|날짜|일자|기간|월$|month|^monat|^mes$|mois|tag$|^day|week",
    re.IGNORECASE,
)
CLOCK_NAMES = re.compile(
    r"time|hour|^hr|^hh|zeit|stunde|^std|hora|heure|^ora|час|время|时|時|시$|시간|utc",
    re.IGNORECASE,
)
DURATIONS = re.compile(
    r"elapsed|moving|durat|dauer|durée|pace|lap|asleep|sleep|spent|total|avg|average|mean|best|race"
    r"|response|travel|lead|run ?time|down ?time|up ?time|screen|wait|delay|life",
    re.IGNORECASE,
)


def is_date_name(name: str) -> bool:
    """Whether a column's name speaks of dates."""
    return NAMES.search(name) is not None


def is_clock_name(name: str) -> bool:
    """Whether a column's name speaks of the time of day, and not of how long something took."""
    return CLOCK_NAMES.search(name) is not None and DURATIONS.search(name) is None
