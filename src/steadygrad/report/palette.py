"""Colours of a heat map: viridis for finite values, and four special colours."""

from steadygrad.report.markup import Html, el, join

# Viridis (S. van der Walt and N. Smith, 2015, CC0) at sixteen points; even in lightness, and
# readable without red or green.
_VIRIDIS = (
    "440154 481a6c 472f7d 414487 39568c 31688e 2a788e 23888e "
    "1f988b 22a884 35b779 54c568 7ad151 a5db36 d2e21b fde725"
).split()

LEVELS = 240
ZERO, INF, NAN, ABSENT = 250, 251, 252, 253
SPECIAL = {
    ZERO: ("zero", "exactly zero", (255, 255, 255)),
    INF: ("inf", "infinite", (229, 57, 53)),
    NAN: ("nan", "not a number", (0, 0, 0)),
    ABSENT: ("absent", "not measured", (128, 128, 128)),  # transparent, so that the hatching shows
}


def palette() -> list[tuple[int, int, int]]:
    """Return 256 colours: the levels, then the special ones."""
    points = [tuple(bytes.fromhex(c)) for c in _VIRIDIS]
    colours = []
    for level in range(LEVELS):
        place = level / (LEVELS - 1) * (len(points) - 1)
        i = min(int(place), len(points) - 2)
        mixed = (a + (place - i) * (b - a) for a, b in zip(points[i], points[i + 1], strict=True))
        r, g, b = (round(c) for c in mixed)
        colours.append((r, g, b))
    colours += [(0, 0, 0)] * (256 - LEVELS)
    for index, (_, _, rgb) in SPECIAL.items():
        colours[index] = rgb
    return colours


def gradient() -> str:
    """Return the levels as a CSS gradient from left to right."""
    return "linear-gradient(90deg," + ",".join(f"#{c}" for c in _VIRIDIS) + ")"


def legend(low: str, high: str, present: set[int]) -> Html:
    """Return the key of a heat map; special colours only where they occur."""
    bar = el("span", class_="ramp", style=f"background:{gradient()}", aria_hidden="true")
    keys = [
        el("span", el("i", class_=f"chip {name}"), " ", words, class_="key")
        for index, (name, words, _) in SPECIAL.items()
        if index in present
    ]
    scale = el("span", low, " ", bar, " ", high, class_="key") if low else None
    return el("div", join([scale, *keys]), class_="legend")
