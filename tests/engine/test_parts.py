"""Rungs in parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.engine.parts import Rung, rung_jobs
from autoprune.policy import PruningPolicy

POLICY = PruningPolicy()


@given(start=st.integers(0, 2000), length=st.integers(1, 5000), workers=st.integers(1, 70))
def test_parts_cover_the_rung_once(start, length, workers):
    jobs = rung_jobs("a", POLICY, start, start + length, workers)
    assert [job.start for job in jobs] == [start, *(job.stop for job in jobs[:-1])]
    assert jobs[-1].stop == start + length
    assert 1 <= len(jobs) <= min(workers, 4)
    assert len(jobs) == 1 or min(job.stop - job.start for job in jobs) >= 256


@pytest.mark.parametrize(
    ("start", "stop", "workers", "edges"),
    [
        (256, 1260, 1, [(256, 1260)]),
        (256, 1260, 2, [(256, 758), (758, 1260)]),
        (256, 1260, 64, [(256, 590), (590, 925), (925, 1260)]),
        (64, 256, 2, [(64, 256)]),
    ],
)
def test_long_rungs_are_shared(start, stop, workers, edges):
    assert [(job.start, job.stop) for job in rung_jobs("a", POLICY, start, stop, workers)] == edges


def test_parts_come_in_any_order():
    rung = Rung(rung_jobs("a", POLICY, 256, 1260, 3))
    whole = np.arange(2 * 1260, dtype=np.float32).reshape(-1, 2)
    ended = [rung.take(job.start, whole[job.start : job.stop], 1.0) for job in reversed(rung.jobs)]
    assert ended == [False, False, True]
    assert rung.start == 256
    assert rung.seconds == 3.0
    assert np.array_equal(rung.logits, whole[256:])
