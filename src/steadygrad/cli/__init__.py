"""The command line: one file a command, options derived from the dataclasses."""

import sys
from collections.abc import Sequence

TOOLKITS = frozenset({"tyro", "rich"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``steadygrad`` and return its exit code: 0 fine, 1 a problem found, 2 wrong use.

    Args:
        argv: Arguments after the program's name; those of the process if not given.
    """
    from steadygrad.cli.app import run

    try:
        return run(sys.argv[1:] if argv is None else list(argv))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in TOOLKITS:
            raise
        # The library is whole without them: only the command line needs these two.
        print(
            f"steadygrad: the command line needs {error.name}: pip install 'steadygrad[cli]'",
            file=sys.stderr,
        )
        return 2
