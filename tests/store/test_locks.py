"""One driver per study, also when the driver is killed; on SQLite and PostgreSQL."""

import os
import signal
import time

import pytest

from autoprune.errors import StudyLockedError
from autoprune.store import EvaluationRow, Store
from autoprune.testing.studies import study_record

HOLD = """
import sys
from autoprune.store import Store
with Store.open(sys.argv[1]) as store, store.lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""
HALF = """
import os, signal, sys
from autoprune.policy import PruningPolicy
from autoprune.store import EvaluationRow, Store
store = Store.open(sys.argv[1])
with store.lock("s"), store.transaction() as session:
    digest = store.add_policy(PruningPolicy())
    store.add_evaluation("s", 1, digest, EvaluationRow(1000, True, 0.5))
    session.flush()
    print("written", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def lock_soon(store: Store, study: str) -> None:
    """Take the lock; a server needs a moment to notice that a client died."""
    for _ in range(100):
        try:
            with store.lock(study):
                return
        except StudyLockedError:
            time.sleep(0.1)
    pytest.fail("the lock outlived its process")


def test_second_driver_is_refused_until_the_first_ends(url: str, store: Store, run_code) -> None:  # type: ignore[no-untyped-def]
    holder = run_code(HOLD, url, "s")
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StudyLockedError, match="'s'") as caught, store.lock("s"):
        pytest.fail("two drivers on one study")
    assert "--new" in caught.value.hint
    if store.address.path:
        assert f"process {holder.pid}" in caught.value.message
    assert store.is_locked("s")
    with store.lock("another"):
        pass
    with pytest.raises(StudyLockedError):
        store.create_study(study_record("s"))
        store.delete_study("s")
    holder.communicate("")
    lock_soon(store, "s")
    assert not store.is_locked("s")


def test_lock_dies_with_a_killed_process(url: str, store: Store, run_code) -> None:  # type: ignore[no-untyped-def]
    holder = run_code(HOLD, url, "s")
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    lock_soon(store, "s")


def test_one_process_cannot_hold_it_twice(store: Store) -> None:
    with store.lock("s"), pytest.raises(StudyLockedError), store.lock("s"):
        pytest.fail("two drivers on one study")
    with store.lock("s"):
        pass


def test_names_that_look_alike_have_their_own_locks(store: Store) -> None:
    with store.lock("a/b"), store.lock("a_b"), store.lock("a" * 300):
        pass


def test_killed_in_a_transaction_leaves_nothing_half_written(url: str, store: Store, run_code) -> None:  # type: ignore[no-untyped-def]
    store.create_study(study_record("s"))
    victim = run_code(HALF, url)
    assert victim.stdout.readline() == "written\n"
    assert victim.wait() == -signal.SIGKILL
    lock_soon(store, "s")
    assert store.evaluations("s") == []
    assert store.get_policy("") is None
    from autoprune.policy import PruningPolicy

    store.add_evaluation("s", 1, store.add_policy(PruningPolicy()), EvaluationRow(1, True, 1.0))
    assert len(store.evaluations("s")) == 1
