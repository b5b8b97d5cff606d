import numpy as np
import pytest

from autoprune.evaluate.quality import kl_per_example, measure_quality


def accuracy(predictions, labels):
    return float(np.mean(predictions == labels))


def softmax(row):
    shifted = np.exp(row - row.max())
    return shifted / shifted.sum()


def test_kl_is_the_sum_written_out():
    rng = np.random.default_rng(0)
    dense, pruned = rng.normal(size=(2, 5, 4)).astype(np.float32) * 5
    for got, p_row, q_row in zip(kl_per_example(dense, pruned), dense, pruned, strict=True):
        p, q = softmax(p_row.astype(float)), softmax(q_row.astype(float))
        assert got == pytest.approx(float(np.sum(p * np.log(p / q))), rel=1e-6)


def test_kl_of_huge_logits_stays_finite():
    dense = np.array([[1e4, -1e4]], dtype=np.float32)
    assert kl_per_example(dense, -dense)[0] == pytest.approx(2e4, rel=1e-6)


def test_dense_against_itself_loses_nothing():
    logits = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    labels = np.arange(50) % 3
    quality = measure_quality(logits, logits, labels, accuracy)
    assert (quality.drop, quality.drop_ci95, quality.kl, quality.agreement) == (0.0, (0.0, 0.0), 0.0, 1.0)


def test_drop_is_paired_and_its_interval_holds_it():
    labels = np.zeros(400, dtype=np.int64)
    dense = np.tile(np.array([[2.0, 0.0]], dtype=np.float32), (400, 1))
    pruned = dense.copy()
    pruned[:40] = pruned[:40, ::-1]
    quality = measure_quality(dense, pruned, labels, accuracy)
    assert quality.drop == pytest.approx(0.1)
    low, high = quality.drop_ci95
    # Binomial standard error of 10 % over 400 examples is 1.5 points.
    assert 0.06 < low < 0.1 < high < 0.14
    assert quality.agreement == pytest.approx(0.9)


def test_without_labels_the_score_is_agreement_with_dense():
    dense = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=np.float32)
    pruned = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    quality = measure_quality(dense, pruned, None, accuracy)
    assert (quality.dense_score, quality.score, quality.drop) == (1.0, 0.75, 0.25)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_short_way_to_the_interval_of_a_share_of_hits_agrees_with_resampling(labelled):
    rng = np.random.default_rng(4)
    dense = rng.normal(size=(500, 3)).astype(np.float32)
    pruned = dense + rng.normal(0, 0.6, dense.shape).astype(np.float32)
    labels = np.where(rng.random(500) < 0.8, dense.argmax(1), 0).astype(np.int64) if labelled else None
    plain = measure_quality(dense, pruned, labels, accuracy)
    short = measure_quality(dense, pruned, labels, accuracy, additive=True)
    assert (short.score, short.drop, short.kl) == (plain.score, plain.drop, plain.kl)
    # Two bootstraps of 1,000: their ends differ by a few hundredths of the interval's width.
    assert short.drop_ci95 == pytest.approx(plain.drop_ci95, abs=0.2 * (plain.drop_ci95[1] - plain.drop_ci95[0]))


def test_the_short_way_gives_dense_no_interval():
    logits = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    assert measure_quality(logits, logits, None, accuracy, additive=True).drop_ci95 == (0.0, 0.0)
