import os
import signal

import pytest

from autoprune.engine.interrupt import Interrupt


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_before_the_search_ctrl_c_ends_at_once():
    with pytest.raises(KeyboardInterrupt), Interrupt():
        press()


def test_in_the_search_the_first_is_a_wish_and_the_second_an_order():
    said = []
    with Interrupt(said.append) as interrupt:
        interrupt.graceful = True
        press()
        assert interrupt.requested
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            press()


def test_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
