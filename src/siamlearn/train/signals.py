"""Ctrl-C and SIGTERM during training: finish the step, save, and go."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["signals_noted"]


@contextmanager
def signals_noted(note: Callable[[str], None]) -> Iterator[None]:
    """Call ``note`` at the first SIGINT or SIGTERM; the second one ends the program as usual.

    The handlers are put back afterwards. Only the main thread of a program can have handlers, so
    in another thread nothing is done; a signal that the program ignores stays ignored.

    Args:
        note: told why to stop; called between any two instructions, so it may only set a flag.

    Example:
        >>> reasons = []
        >>> with signals_noted(reasons.append):
        ...     signal.raise_signal(signal.SIGTERM)
        >>> reasons
        ['SIGTERM']
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        if seen:
            raise SystemExit(128 + number)
        seen.append(number)
        note(signal.Signals(number).name)

    # None stands for a handler that was not set from Python, and that could not be put back.
    ours = [n for n, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    try:
        for number in ours:
            signal.signal(number, handle)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
