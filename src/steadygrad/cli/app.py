"""The commands under one program, and what an error looks like: one line, exit code 2."""

import os
import sys
from collections.abc import Callable

import tyro

from steadygrad import __version__
from steadygrad.cli.bench import bench
from steadygrad.cli.check import check
from steadygrad.cli.demo import demo
from steadygrad.cli.diagnose import diagnose
from steadygrad.cli.explain import explain
from steadygrad.cli.optional_options import registry
from steadygrad.cli.rank_zero import one_voice
from steadygrad.cli.replay import replay
from steadygrad.cli.report import report
from steadygrad.cli.train import train
from steadygrad.errors import InputError
from steadygrad.ranks import LostProcess
from steadygrad.record import RecordError

COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "train": train,
    "bench": bench,
    "diagnose": diagnose,
    "check": check,
    "explain": explain,
    "replay": replay,
    "report": report,
}
"""Every command by name; its docstring is its help, its parameters are its options."""

DESCRIPTION = """\
See the gradient at every time step of a recurrent network, name what is wrong, and repair it.

Exit codes: 0 fine, 1 a problem was found, 2 wrong use, 130 interrupted."""
INTERRUPTED = 130  # as shells count a process ended by Ctrl-C


def run(argv: list[str]) -> int:
    """Run one command and return the exit code."""
    try:
        with one_voice():
            return _run(argv)
    except LostProcess as error:  # whoever is left says so, the first may be the one that is gone
        print(f"steadygrad: {error}", file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    if argv and argv[0] in ("--version", "-V"):
        print(f"steadygrad {__version__}")
        return 0
    try:
        with registry:
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="steadygrad",
                description=DESCRIPTION,
                args=argv or ["--help"],
                config=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff),
            )
    except (InputError, RecordError) as error:
        print(f"steadygrad: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that is gone: nothing a traceback explains
        where = f" ({error.filename})" if error.filename else ""
        print(f"steadygrad: {error.strerror or error}{where}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("steadygrad: stopped", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:  # tyro's own, after help or a wrong option
        return end.code if isinstance(end.code, int) else 2
