"""Which stored study answers a call, and which begins anew."""

from types import SimpleNamespace

import pytest

from autoprune.engine.driver import _answers, _proved_nothing


def stored(status="not_met", elapsed=100.0, complete=3, **more):
    trials = {"complete": complete, "stopped": 0, "failed": 0}
    return SimpleNamespace(status=status, result={"trials": trials, "elapsed_s": elapsed, **more})


def asked(**options):
    known = {"trials": None, "time_limit": None, "until": None, **options}
    return SimpleNamespace(config=SimpleNamespace(**known), trials=known["trials"] or 24)


@pytest.mark.parametrize(
    ("record", "options", "answers"),
    [
        (stored(), {"time_limit": 60.0}, True),
        (stored(), {"time_limit": 3600.0}, False),
        (stored(), {}, False),
        (stored(complete=24), {}, True),
        (stored(complete=24), {"trials": 30}, False),
        (stored(exhausted=True), {"trials": 30}, True),
        (stored(status="interrupted"), {"time_limit": 60.0}, False),
        (stored(status="infeasible", complete=0), {}, True),
    ],
)
def test_a_finished_study_answers_unless_more_is_asked(record, options, answers):
    assert _answers(record, asked(**options)) is answers


def test_only_a_study_that_the_noise_left_empty_begins_anew():
    assert _proved_nothing(stored(status="too_noisy", complete=0))
    assert not _proved_nothing(stored(status="too_noisy", complete=2))
    assert not _proved_nothing(stored(status="not_met", complete=0))
    assert not _proved_nothing(None)
