"""Serve the page on the loopback interface, in a thread or until Ctrl-C."""

import os
import secrets
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, final

from steadygrad.errors import InputError

LOOPBACK = "127.0.0.1"
_PATIENCE = 5.0  # seconds that a stop waits for streams to end


@final
class Board:
    """A live page of records: draws them while they grow.

    It listens on the loopback interface alone; its address holds a secret token. It only reads,
    but for one button, "Try the cure", which starts forks of a run in processes of their own.

    Args:
        places: Records, or folders that hold some, now or later.
        port: To listen on; 0 takes a free one.
        token: Of an earlier page, so that one that is still open goes on; a new one if not given.
        cure: The command that begins a fork, see `steadygrad.board.cures.fork_command`; None, and
            the page only reads.

    Attributes:
        url: Address of the page, with the token.

    Raises:
        InputError: starlette or uvicorn are not installed, or the port is taken.
    """

    def __init__(
        self,
        places: Sequence[str | Path],
        port: int = 0,
        *,
        token: str | None = None,
        cure: Sequence[str] | None = None,
    ) -> None:
        try:
            import uvicorn

            from steadygrad.board.app import ACTIONS, application
        except ImportError as error:
            raise InputError(
                f"the live page needs {error.name}; install it with pip install 'steadygrad[live]'"
            ) from None
        from steadygrad.board.cures import Cures
        from steadygrad.board.guard import Guard
        from steadygrad.board.sources import Sources

        self._socket = _listen(port)
        port = self._socket.getsockname()[1]
        token = token or secrets.token_urlsafe(24)
        self.url = f"http://{LOOPBACK}:{port}/{token}/"
        cures = None if cure is None else Cures(cure)
        sources = Sources([Path(p) for p in places])
        app = application(sources, lambda: self._server.should_exit, cures)
        config = uvicorn.Config(
            Guard(app, token, port, () if cures is None else ACTIONS),
            log_level="warning",
            access_log=False,  # it would write the token down
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until Ctrl-C."""
        self._server.run(sockets=[self._socket])

    def start(self) -> Self:
        """Serve in a thread, until `close` or the end of the program."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.run, name="steadygrad-live", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving; closing twice is fine."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        self._socket.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Board: {self.url}>"


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # a page that was served just before may leave its port half closed
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or error
        raise InputError(f"port {port}: cannot be listened on ({why}); give another") from None
    return listening
