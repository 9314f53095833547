"""Signals: the first is noted, the second ends the program, and the handlers are put back."""

import signal
import threading

import pytest

from siamlearn.train.signals import signals_noted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_handler_put_back(number):
    before, reasons = signal.getsignal(number), []
    with signals_noted(reasons.append):
        assert signal.getsignal(number) is not before
        signal.raise_signal(number)
    assert reasons == [number.name]
    assert signal.getsignal(number) is before


def raise_both(first, second):
    with signals_noted(lambda why: None):
        signal.raise_signal(first)
        signal.raise_signal(second)


def test_the_second_raises_at_once():
    with pytest.raises(KeyboardInterrupt):
        raise_both(signal.SIGINT, signal.SIGINT)
    with pytest.raises(SystemExit, match="143"):
        raise_both(signal.SIGINT, signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_the_program_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_noted(lambda why: pytest.fail("noted")):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_sets_no_handlers():
    seen = []

    def work():
        with signals_noted(lambda why: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
