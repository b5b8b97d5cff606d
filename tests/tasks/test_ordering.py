import numpy as np
import pytest

from autoprune.tasks.ordering import hash_slice, stratified_order


def texts_of(lengths):
    return [f"{i:05d}" + "x" * int(n) for i, n in enumerate(lengths)]


@pytest.fixture
def skewed():
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(5, 1, 1000).clip(1, 400).astype(int)
    groups = rng.choice(4, 1000, p=[0.5, 0.3, 0.15, 0.05])
    return lengths, groups


def test_it_is_a_permutation(skewed):
    lengths, groups = skewed

    assert sorted(stratified_order(texts_of(lengths), groups.tolist())) == list(range(1000))


@pytest.mark.parametrize("prefix", [64, 128, 256])
def test_every_prefix_has_the_class_shares_and_lengths_of_the_whole(skewed, prefix):
    lengths, groups = skewed
    order = stratified_order(texts_of(lengths), groups.tolist())[:prefix]

    shares = np.bincount(groups[order], minlength=4) - prefix * np.bincount(groups) / 1000
    assert np.abs(shares).max() <= 1
    # A random sample of 64 misses the mean of these lengths by 6 % on average, and by 16 % now and then.
    assert lengths[order].mean() == pytest.approx(lengths.mean(), rel=0.05)
    assert np.median(lengths[order]) == pytest.approx(np.median(lengths), rel=0.1)


def test_the_order_does_not_depend_on_the_order_of_the_file(skewed):
    lengths, groups = skewed
    texts = texts_of(lengths)
    shuffled = np.random.default_rng(1).permutation(1000)
    first = [texts[i] for i in stratified_order(texts, groups.tolist())]
    second_texts = [texts[i] for i in shuffled]
    second = [second_texts[i] for i in stratified_order(second_texts, groups[shuffled].tolist())]

    assert first == second


def test_the_hash_slice_keeps_equal_texts_together():
    texts = [f"text {i % 50}" for i in range(200)]
    calibration, held_out = hash_slice(texts, most=600, share=0.2)

    assert len(calibration) == 40  # a fifth of the 50 distinct texts, four times each
    assert not {texts[i] for i in calibration} & {texts[i] for i in held_out}
    assert sorted(calibration + held_out) == list(range(200))


def test_the_hash_slice_has_a_most():
    assert len(hash_slice([str(i) for i in range(1000)], most=100, share=0.2)[0]) == 100
