"""A driver that is killed loses nothing, and the same command finishes its study."""

import json
import signal
import time
from collections import Counter

import optuna
import pytest

from autoprune.errors import StoreError
from autoprune.store.repository import Store


def evaluated(db):
    """Return how often each policy was scored on all examples."""
    try:
        with Store.open(db) as store:
            names = [summary.name for summary in store.list_studies()]
            return names, Counter(e.digest for name in names for e in store.evaluations(name) if e.complete)
    except StoreError:
        return [], Counter()


def wait_for(condition, process, seconds=180):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        if process.poll() is not None:
            pytest.fail(f"the search ended too early: {process.communicate()[1][-2000:]}")
        time.sleep(0.05)
    process.kill()
    pytest.fail("the search came to nothing")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_search_is_finished_by_the_same_command(run_search, options, blow):
    first = run_search(trials=6)
    wait_for(lambda: sum(evaluated(options["db"])[1].values()) >= 3, first)
    first.send_signal(blow)
    out, _ = first.communicate(timeout=120)
    before = evaluated(options["db"])[1]
    if blow == signal.SIGINT:
        assert json.loads(out)["status"] == "interrupted"
    second = run_search(trials=6)
    out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    document = json.loads(out)
    names, after = evaluated(options["db"])
    assert names == [document["study"]]
    assert all(after[digest] >= before[digest] for digest in before)
    study = optuna.load_study(study_name=document["study"], storage=f"sqlite:///{options['db']}")
    told = Counter(t.user_attrs["policy_digest"] for t in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))
    assert max(told.values()) == 1
    assert not study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert sum(document["trials"].values()) == 6
    with Store.open(options["db"]) as store:
        timed = Counter(m.digest for m in store.measurements(document["study"]) if m.kind == "search")
        worked = Counter(e.digest for e in store.evaluations(document["study"]) if e.complete and e.seconds)
    assert max(timed.values()) == 1
    assert max(worked.values()) == 1, "a finished policy was scored again"


def test_two_drivers_on_one_study_are_refused(run_search, options):
    first = run_search(trials=6)
    wait_for(lambda: evaluated(options["db"])[0], first)
    second = run_search(trials=6)
    _, err = second.communicate(timeout=240)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert second.returncode == 1
    assert "StudyLockedError" in err
