import numpy as np
import pytest

from autoprune.errors import MeasurementError
from autoprune.latency.anchor import DenseAnchor
from autoprune.latency.timing import PairedTiming


def timing(level: float = 1.0, ratio: float = 0.5, **options: object) -> PairedTiming:
    rng = np.random.default_rng(0)
    dense = 10e6 * level * rng.lognormal(sigma=0.02, size=(12, 3))
    return PairedTiming(dense_ns=dense, policy_ns=ratio * dense, **options)  # type: ignore[arg-type]


def test_bytes_round_trip_without_pickle() -> None:
    first = timing(statistic="p95", half_width=0.05, seconds=1.5, warmup_rounds=2)
    data = first.to_bytes()
    again = PairedTiming.from_bytes(data)
    np.testing.assert_array_equal(again.dense_ns, first.dense_ns)
    assert again.to_dict() == first.to_dict()
    assert len(data) < first.dense_ns.nbytes * 2 + 2000


@pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04broken"])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MeasurementError, match="no timing samples"):
        PairedTiming.from_bytes(data)


def test_unpaired_samples_are_refused() -> None:
    with pytest.raises(MeasurementError, match="one shape"):
        PairedTiming(dense_ns=np.ones((3, 2)), policy_ns=np.ones((2, 3)))
    with pytest.raises(MeasurementError, match="one shape"):
        PairedTiming(dense_ns=np.ones((0, 2)), policy_ns=np.ones((0, 2)))


def test_quiet_pairs_are_not_noisy() -> None:
    found = timing()
    assert found.ratio() == pytest.approx(0.5, rel=1e-6)
    assert found.noise_cause is None
    assert not found.noisy
    assert (found.rounds, found.n_inputs) == (12, 3)


def test_anchor_turns_ratios_into_milliseconds_of_the_study() -> None:
    anchor = DenseAnchor(timing().stats("dense"))
    slower = timing(level=1.3)
    assert anchor.latency_ms(slower) == pytest.approx(0.5 * anchor.dense.p50, rel=1e-6)
    assert anchor.observe(slower) == pytest.approx(0.3, abs=0.01)


def test_anchor_moves_only_after_three_measurements_to_one_side() -> None:
    anchor = DenseAnchor(timing().stats("dense"))
    for level in (1.3, 1.0, 1.3, 1.3):
        anchor.observe(timing(level=level))
        assert not anchor.moved
    anchor.observe(timing(level=1.3))
    assert anchor.moved
    fresh = anchor.renewed([timing(level=1.3)])
    assert fresh.dense.p50 == pytest.approx(1.3 * anchor.dense.p50, rel=1e-6)
    assert not fresh.moved
    assert DenseAnchor.from_dict(anchor.to_dict()) == anchor
    assert "+30%" in anchor.describe()
    with pytest.raises(MeasurementError):
        anchor.renewed([])
