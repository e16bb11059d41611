"""The glossary of the report."""

from steadygrad.report.markup import el
from steadygrad.report.sections import Section, section

WORDS = {
    "Gradient": "How much the error would change if a number inside the network changed "
    "a little. Training follows it.",
    "Time step": "One element of the sequence: an hour, a letter, a row of pixels. The "
    "network reads them one after the other and keeps a state in between.",
    "Vanishing": "Each step back multiplies the gradient by less than one. After enough "
    "steps nothing measurable is left, and the early steps cannot be learned.",
    "Exploding": "Each step back multiplies it by more than one, until an update does "
    "more harm than good or the numbers overflow.",
    "Lag": "How far back in the sequence the information lies that the answer needs, in "
    "time steps.",
    "Horizon": "How far back the gradient reaches before it falls below the limit, in "
    "time steps. If it is shorter than the lag, the task cannot be learned well.",
    "Gate": "A learned valve inside LSTM and GRU cells, between 0 and 1, that decides "
    "what is kept, added or shown. The forget gate decides what survives a step.",
    "Clipping": "Shortening an update that is too long. It tames explosion; it cannot "
    "bring back what has vanished.",
    "log10": "The power of ten: \u22124 stands for 1/10,000. A slope of \u22120.2 decades per "
    "step loses a factor of ten every five steps.",
}


def glossary() -> Section:
    """Return the list of words."""
    entries = [el("div", el("dt", word), el("dd", text)) for word, text in WORDS.items()]
    return section("Words used here", el("dl", *entries, class_="words"))
