"""Stop a run between two steps on Ctrl-C, SIGTERM or a closed terminal."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self, final

# SIGHUP, sent when a terminal is closed, does not exist on every system.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@final
class Interrupt:
    """A context in which the first signal is only recorded; the second has its usual effect.

    A no-op outside the main thread, where Python allows no signal handlers.

    Args:
        is_patient: Whether further signals are only recorded, too: torchrun repeats Ctrl-C to
            processes that have received it from the terminal already, and kills those that do not
            end.
    """

    def __init__(self, is_patient: bool = False) -> None:
        self.requested = False
        self._is_patient = is_patient
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # An ignored signal stays ignored: nohup must survive the terminal.
            wanted = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # torchrun kills the other processes as soon as one has ended: keep ignoring signals until
        # the error has been reported.
        if not (self._is_patient and error is not None):
            self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._is_patient:
            self._restore()

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # pyright: ignore[reportArgumentType]
        self._before = {}
