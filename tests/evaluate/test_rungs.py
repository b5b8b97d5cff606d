import numpy as np

from autoprune.evaluate.rungs import Rival, is_beaten, next_rung, rung_sizes


def test_rungs_end_with_all_examples():
    assert rung_sizes(1200) == (64, 256, 1200)
    assert rung_sizes(300) == (64, 300)
    assert rung_sizes(20) == (20,)


def test_next_rung_walks_up_and_ends():
    assert [next_rung(done, 1200) for done in (0, 64, 256, 1200)] == [64, 256, 1200, None]


def test_a_clearly_worse_and_slower_policy_is_beaten():
    rng = np.random.default_rng(0)
    rival = Rival(10.0, rng.exponential(0.1, 1000))
    worse = rival.kl[:64] + rng.exponential(0.3, 64)
    assert is_beaten(worse, 12.0, [rival])


def test_nobody_is_beaten_by_a_slower_policy():
    rival = Rival(20.0, np.zeros(1000))
    assert not is_beaten(np.ones(64), 10.0, [rival])


def test_noise_alone_beats_few():
    rng = np.random.default_rng(3)
    stopped = 0
    for _ in range(400):
        shared = rng.exponential(0.1, 64)
        rival = Rival(10.0, np.maximum(shared + rng.normal(0, 0.02, 64), 0))
        stopped += is_beaten(shared + rng.normal(0, 0.02, 64), 10.0, [rival])
    # The upper tail of a 95 % interval: 2.5 % in expectation.
    assert stopped / 400 < 0.06


def test_an_equal_policy_is_not_beaten():
    kl = np.random.default_rng(5).exponential(0.1, 64)
    assert not is_beaten(kl, 10.0, [Rival(10.0, kl)])
