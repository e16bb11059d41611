"""Ctrl-C, SIGTERM and a closed terminal stop a run between two steps: nothing is half done."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self, final

# Not every system has SIGHUP, which a terminal sends when it is closed.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@final
class Interrupt:
    """While entered, the first signal is only remembered; the second acts as it always does.

    Outside the main thread, where Python allows no signal handlers, it does nothing.

    Args:
        is_patient: Whether further signals are only remembered, too: torchrun passes Ctrl-C on to
            processes that have had it from the terminal already, and kills what does not end.
    """

    def __init__(self, is_patient: bool = False) -> None:
        self.requested = False
        self._is_patient = is_patient
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # A signal that is ignored stays so: nohup wants to outlive the terminal.
            wanted = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # torchrun ends the other processes as soon as one is gone: what is to be said of that has
        # to get out first.
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
