"""The replay pool: recorded answers, simulated workers, a clock that can be computed by hand."""

import numpy as np
import pytest

from autoprune._registry import POOLS
from autoprune.errors import DataError
from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.pools.replay import ReplayPool, load_recording, save_recording
from autoprune.policy import PruningPolicy, Stage

A, B = (PruningPolicy((Stage("input", "truncate", keep=keep),)) for keep in (0.5, 0.25))


@pytest.fixture
def recorded():
    rng = np.random.default_rng(0)
    return {policy.digest(): rng.normal(size=(32, 3)).astype(np.float32) for policy in (A, B)}


def job(policy, start=0, stop=32, key=None):
    return Job(key or policy.digest(), policy, start, stop)


def test_it_is_a_pool_by_name():
    assert POOLS.get("replay") is ReplayPool


def test_answers_are_the_recorded_rows(recorded):
    pool = ReplayPool(recorded)
    pool.submit(job(A, 0, 8))
    pool.submit(job(B, 8, 32))
    first, second = pool.next(), pool.next()
    np.testing.assert_array_equal(first.logits, recorded[A.digest()][:8])
    np.testing.assert_array_equal(second.logits, recorded[B.digest()][8:])
    assert pool.pending == 0
    assert pool.clock == 0.0
    assert pool.examples == {A.digest(): 8, B.digest(): 24}


def test_what_was_not_recorded_is_an_outcome_with_an_error(recorded):
    pool = ReplayPool(recorded)
    pool.submit(job(PruningPolicy()))
    pool.submit(job(A, 0, 33))
    unknown, short = pool.next(), pool.next()
    assert unknown.logits is None
    assert "no recording" in unknown.error
    assert short.logits is None
    assert "32 examples, not on 33" in short.error


def test_results_come_in_order_of_finish_and_time_is_accounted(recorded):
    takes = {"long": 5.0, "short": 1.0, "next": 2.0}
    pool = ReplayPool(recorded, workers=2, seconds=lambda job: takes[job.key])
    for key in takes:
        pool.submit(job(A, key=key))
    order = [(pool.next().job.key, pool.clock) for _ in takes]
    # The third job waits for the worker that is free after one second.
    assert order == [("short", 1.0), ("next", 3.0), ("long", 5.0)]
    assert sorted(pool.busy) == [3.0, 5.0]
    assert pool.busy_share == pytest.approx(8 / 10)


def test_jobs_under_way_count_as_busy_up_to_now(recorded):
    pool = ReplayPool(recorded, workers=2, seconds=lambda job: float(job.key))
    pool.submit(job(A, key="1"))
    pool.submit(job(A, key="4"))
    pool.next()
    assert pool.busy_share == 1.0


def test_ties_keep_the_order_of_submission(recorded):
    pool = ReplayPool(recorded, workers=3, seconds=lambda job: 2.0)
    for key in "abcd":
        pool.submit(job(A, key=key))
    assert [pool.next().job.key for _ in "abcd"] == list("abcd")
    assert pool.clock == 4.0


def test_a_group_runs_on_one_worker_as_long_as_its_jobs_together(recorded):
    pool = ReplayPool(recorded, workers=2, seconds=lambda job: float(job.key))
    pool.submit(job(A, key="1"), job(B, key="2"))
    pool.submit(job(A, key="4"))
    found = []
    while pool.pending:
        outcome = pool.next()
        found.append((outcome.job.key, outcome.seconds, pool.clock, pool.pending))
    assert found == [("1", 1.0, 3.0, 2), ("2", 2.0, 3.0, 1), ("4", 4.0, 4.0, 0)]
    assert sorted(pool.busy) == [3.0, 4.0]


@pytest.mark.parametrize(("workers", "wanted"), [(1, 1), (4, 5)])
def test_it_wants_as_many_jobs_as_the_real_pools(recorded, workers, wanted):
    pool = ReplayPool(recorded, workers=workers)
    assert pool.wanted == wanted
    pool.submit(job(A))
    assert pool.wanted == wanted - 1
    pool.close()
    assert pool.pending == 0


def test_the_drivers_own_time_passes_on_the_virtual_clock(recorded):
    now = [100.0]
    pool = ReplayPool(recorded, workers=1, seconds=lambda job: 4.0, watch=lambda: now[0])
    now[0] += 1.0  # a decision before the first job
    pool.submit(job(A))
    now[0] += 6.0  # the driver is slower than the job: the worker idles for two seconds
    pool.next()
    assert pool.clock == 7.0
    assert pool.busy == [4.0]
    pool.submit(job(B))
    pool.next()
    assert pool.clock == 11.0


@pytest.mark.parametrize(("precision", "error"), [("float32", 0.0), ("float16", 1e-3)])
def test_a_recording_survives_the_disk(recorded, tmp_path, precision, error):
    path = tmp_path / "recording.npz"
    recorded["ragged"] = np.ones((5, 3), dtype=np.float32)
    save_recording(path, recorded, precision)
    found = load_recording(path)
    assert set(found) == set(recorded)
    for digest, logits in recorded.items():
        assert found[digest].dtype == np.float32
        np.testing.assert_allclose(found[digest], logits, rtol=error, atol=error)
    assert list(tmp_path.iterdir()) == [path]


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, digest=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="not a recording"):
        load_recording(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "recording.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"recording\.npz"):
        load_recording(path)


def test_other_arrays_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, digest=np.arange(4))
    with pytest.raises(DataError, match=r"shape \(4,\)"):
        load_recording(path)
