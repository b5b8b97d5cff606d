"""One call beside the caller's."""

import threading

import pytest

from autoprune.engine.beside import Beside


def test_a_call_runs_in_another_thread_and_is_taken_once():
    beside, go = Beside(), threading.Event()
    assert not beside.busy
    assert not beside.done
    beside.start("a", lambda: go.wait(10) and threading.current_thread())
    assert beside.busy
    assert not beside.done
    with pytest.raises(RuntimeError, match="One call at a time"):
        beside.start("b", lambda: None)
    go.set()
    key, value = beside.take()
    assert key == "a"
    assert value() is not threading.current_thread()
    assert not beside.busy
    with pytest.raises(RuntimeError, match="No call"):
        beside.take()


def test_an_error_is_raised_where_it_is_taken():
    beside = Beside()
    beside.start(1, lambda: 1 // 0)
    _, value = beside.take()
    with pytest.raises(ZeroDivisionError):
        value()
    beside.start(2, lambda: 2)
    assert beside.take()[1]() == 2
