"""``steadygrad live RUN``: a local page that redraws during a training."""

import json as json_format
import webbrowser
from pathlib import Path
from typing import Annotated

import tyro

from steadygrad.errors import InputError


def live(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    port: int = 0,
    browser: bool = False,
    read_only: bool = False,
    trainer: str | None = None,
    json: bool = False,
) -> int:
    """Show runs on a local page that redraws while they train.

    It follows the records of any process: steadygrad train, bench, or a watch with a record. The
    page is served to this machine alone, under an address with a secret token. It reads, and does
    one thing besides: its button "Try the cure" forks a run of steadygrad train under each remedy
    that its findings suggest (steadygrad fork) and draws the forks beside it. Ctrl-C ends it.

    Args:
        runs: Records (run.db), or folders that hold some now or later; the folder runs if not
            given.
        port: Port to listen on; a free one if 0.
        browser: Open the page in the browser.
        read_only: Leave the button out.
        trainer: What the button starts for records of your own loop: module:function or
            file.py:function, as steadygrad fork takes it.
        json: Print the address as one JSON document.
    """
    from steadygrad.board import Board
    from steadygrad.board.cures import fork_command

    if read_only and trainer is not None:
        raise InputError("--read-only leaves the button out that --trainer is for: give one")
    places = list(runs) or [Path("runs")]  # the default may be made later, by the first training
    for place in runs:
        if not place.exists():
            raise InputError(f"live: {place}: no such file or folder; name a record or a folder")
    board = Board(places, port, cure=None if read_only else fork_command(trainer))
    print(json_format.dumps({"url": board.url}) if json else f"live page: {board.url}", flush=True)
    if browser:
        webbrowser.open(board.url)
    try:
        board.run()
    except KeyboardInterrupt:  # Ctrl-C ends the command
        pass
    finally:
        board.close()
    return 0
