"""Dispatch the commands, and print errors as one line with exit code 2.

Neither this module nor those of the commands import torch before a command runs, so that help,
version and usage errors are fast.
"""

import importlib
import os
import sys
from collections.abc import Callable

from steadygrad import __version__
from steadygrad.cli.help_text import flowing, folded, overview
from steadygrad.cli.rank_zero import one_voice
from steadygrad.errors import InputError, LostProcess, RecordError, did_you_mean

COMMANDS: dict[str, str] = {
    "demo": "See a recurrent network fail, learn why, and see it repaired: about a minute,"
    " offline.",
    "train": "Train a recurrent network on your own CSV or text, and score it beside naive"
    " answers.",
    "forecast": "Forecast the rows after the end of a file with a trained model, with intervals.",
    "generate": "Continue a text with a trained language model, symbol by symbol.",
    "stream": "Answer each line of the standard input with one line, as it comes.",
    "export": "Write a trained model as ONNX or for torch.export, checked in that run time.",
    "bench": "Train every combination of cells, remedies, lengths and seeds on a task, and compare"
    " them.",
    "diagnose": "Measure the gradient at every time step of a model, name what is wrong, and what"
    " may help.",
    "fork": "Train on from the last checkpoint of a run for a while, with one more remedy or none.",
    "live": "Show runs on a local page that redraws while they train.",
    "check": "Look for faults in the record of a run: exit code 0 none, 1 found, 2 wrong use.",
    "compare": "Find the first training step, layer, gate and time step at which two runs part.",
    "explain": "Explain a fault, a quantity, a run or a symptom.",
    "learn": "List the lessons, or compute one, with your own numbers.",
    "replay": "Run a saved step again: the same batch, weights and random state.",
    "warm": "Build the kernels of cells ahead, into the cache: exit code 1 if one is not compiled.",
    "report": "Draw one record, or several side by side, as one self-contained HTML file.",
}
"""Every command and the first line of its docstring.

The command NAME is the function NAME of the module ``steadygrad.cli.NAME``; its docstring is its
help, its parameters are its options.
"""

DESCRIPTION = (
    "See the gradient at every time step of a recurrent network, name what is wrong, and repair it."
)
ENDING = "Exit codes: 0 fine, 1 a problem was found, 2 wrong use, 130 interrupted."
HELP = frozenset({"-h", "--help"})
LONGEST, LONGEST_WORD = 2000, 400  # most characters of a message, and of a word in it
INTERRUPTED = 130  # exit code of shells for a process ended by Ctrl-C


def run(argv: list[str]) -> int:
    """Run one command and return the exit code."""
    try:
        with one_voice():
            return _run(argv)
    except LostProcess as error:  # on every rank: rank 0 may have died
        print(f"steadygrad: {error}", file=sys.stderr)
        return 1


def _cut(text: str) -> str:
    """Shorten a message that quotes long texts."""
    words = (w if len(w) <= LONGEST_WORD else f"{w[:40]}...{w[-20:]}" for w in text.split(" "))
    text = " ".join(words)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in HELP:
        print(overview(DESCRIPTION, COMMANDS, ENDING))
        return 0
    if argv[0] in ("--version", "-V"):
        print(f"steadygrad {__version__}")
        return 0
    try:
        return _call(argv[0], argv[1:])
    except (InputError, RecordError) as error:
        print(f"steadygrad: {_cut(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the pipe has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk or a missing folder: a traceback would not help
        where = f" ({error.filename})" if error.filename else ""
        print(f"steadygrad: {_cut(f'{error.strerror or error}{where}')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("steadygrad: stopped", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:  # raised by tyro after help or a wrong option
        return end.code if isinstance(end.code, int) else 2


def _call(name: str, arguments: list[str]) -> int:
    """Parse the options of one command and run it."""
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        raise InputError(
            f"no {what} {name!r}{did_you_mean(name, [*COMMANDS, '--help', '--version'])}; "
            f"there are: {', '.join(COMMANDS)}; `steadygrad --help` describes them"
        )
    import tyro

    from steadygrad.cli.optional_options import registry

    module = importlib.import_module(f"steadygrad.cli.{name}")
    command: Callable[..., int] = getattr(module, name)
    if hasattr(module, "subcommand"):  # options that depend on the first argument
        command, name, arguments = module.subcommand(arguments)
    with registry, folded(not HELP.isdisjoint(arguments)):
        return tyro.cli(
            flowing(command),
            prog=f"steadygrad {name}",
            args=arguments,
            config=(
                tyro.conf.PositionalRequiredArgs,
                tyro.conf.FlagCreatePairsOff,
                tyro.conf.OmitArgPrefixes,
            ),
        )
