"""What thresholds and masses leave, against loops over texts that use nothing of the product."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.engine.landscape.curves import Curves
from autoprune.engine.landscape.expected import Expected, counts_at
from autoprune.engine.landscape.removal import removal_of
from autoprune.errors import PolicyError
from autoprune.policy import Protect, PruningPolicy, Stage

LENGTHS = (30, 30, 21, 12)
WIDTH = max(LENGTHS)
PLAIN = Protect(prefix=0)


def texts(seed=0):
    """Return heavy-tailed scores of two places, with what is real and what is held."""
    generator = torch.Generator().manual_seed(seed)
    scores = {
        ((-1, 0), "norm"): torch.randn(4, WIDTH, generator=generator).exp(),
        ((2, 0), "entropy"): torch.randn(4, WIDTH, generator=generator).mul(2).exp(),
    }
    scores[(3, 0), "norm"] = scores[(-1, 0), "norm"]
    real = torch.arange(WIDTH) < torch.tensor(LENGTHS).unsqueeze(1)
    held = torch.zeros(4, WIDTH, dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        held[row, [0, length - 1]] = True
    return scores, real, held


def curves(rows=1, seed=0):
    return Curves(*texts(seed), rows=rows)


def policy(*stages, protect=PLAIN):
    return PruningPolicy(stages, protect)


def plain_threshold(values, alive, held, threshold):
    mean = sum(values[i] for i in alive) / len(alive)
    return {i for i in alive if values[i] / mean >= threshold or i in held}


def plain_mass(values, alive, held, mass):
    total, kept, sum_ = sum(values[i] for i in alive), set(), 0.0
    for i in sorted(alive, key=lambda i: -values[i]):
        if sum_ >= mass * total:
            break
        kept.add(i)
        sum_ += values[i]
    return kept | (held & alive)


def plain_shares(found, stages):
    """Return the mean share that each (place, plain selector, value) leaves."""
    scores, _, held = texts()
    out = [0.0] * len(stages)
    for row, length in enumerate(LENGTHS):
        alive, guard = set(range(length)), {i for i in range(length) if held[row, i]}
        for index, (place, select, value) in enumerate(stages):
            alive = select(scores[place][row].double().tolist(), alive, guard, value)
            out[index] += len(alive) / length / len(LENGTHS)
    assert found == pytest.approx(out, abs=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.7, 1.0, 1.9, 5.0])
def test_a_threshold_against_a_loop(threshold):
    stage = Stage("input", "norm", threshold=threshold)
    plain_shares(curves().shares(policy(stage)), [(((-1, 0), "norm"), plain_threshold, threshold)])


@pytest.mark.parametrize("mass", [0.05, 0.3, 0.71, 0.95])
def test_a_mass_against_a_loop(mass):
    stage = Stage(2, "entropy", mass=mass)
    plain_shares(curves().shares(policy(stage)), [(((2, 0), "entropy"), plain_mass, mass)])


def test_later_stages_see_what_earlier_ones_left():
    stages = Stage("input", "norm", mass=0.9), Stage(2, "entropy", threshold=0.5), Stage(3, "norm", threshold=0.8)
    plain_shares(
        curves().shares(policy(*stages)),
        [
            (((-1, 0), "norm"), plain_mass, 0.9),
            (((2, 0), "entropy"), plain_threshold, 0.5),
            (((3, 0), "norm"), plain_threshold, 0.8),
        ],
    )


def test_protection_and_rounding_are_those_of_a_stage():
    strict = Stage("input", "norm", threshold=1000.0)
    assert curves().shares(policy(strict)) == pytest.approx([sum(2 / n for n in LENGTHS) / 4])
    wide = policy(strict, protect=Protect(prefix=4))
    assert curves().shares(wide) == pytest.approx([sum(5 / n for n in LENGTHS) / 4])
    rounded = Stage("input", "norm", threshold=1000.0, multiple=8)
    assert curves().shares(policy(rounded)) == pytest.approx([sum(8 / n for n in LENGTHS) / 4])


def test_a_batch_is_as_long_as_its_longest_row():
    stage = Stage("input", "norm", threshold=0.7)
    scores, _, held = texts()
    kept = []
    for row, length in enumerate(LENGTHS):
        values = scores[(-1, 0), "norm"][row].double().tolist()
        guard = {i for i in range(length) if held[row, i]}
        kept.append(len(plain_threshold(values, set(range(length)), guard, 0.7)))
    expected = (max(kept[:2]) / 30 + max(kept[2:]) / 21) / 2
    assert curves(rows=2).shares(policy(stage)) == pytest.approx([expected])


@pytest.mark.parametrize("select", ["threshold", "mass"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.25])
def test_a_value_is_solved_for_a_share(select, rows, keep):
    draft = policy(Stage("input", "norm", **{select: 0.5}), Stage(3, "norm", **{select: 0.5}))
    found = Expected(curves(rows))
    settled = found.settle(draft, (keep, 0.8 * keep))
    shares = found.keeps(settled)
    for share, wanted in zip(shares, (keep, 0.8 * keep), strict=True):
        assert wanted - 0.06 <= share <= wanted, "at most what is asked for, and no token less than must be"
    assert [stage.selector for stage in settled.stages] == [select, select]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 99),
    low=st.floats(0.1, 1.0),
    more=st.floats(0.0, 0.9),
    select=st.sampled_from(["threshold", "mass"]),
)
def test_a_smaller_share_keeps_no_more(seed, low, more, select):
    found, draft = Expected(curves(seed=seed)), policy(Stage(2, "entropy", **{select: 0.5}))
    weak, hard = (found.keeps(found.settle(draft, (share,)))[0] for share in (low, low * (1 - more)))
    assert hard <= weak <= low


def test_a_share_of_one_keeps_all():
    found = Expected(curves())
    settled = found.settle(policy(Stage("input", "norm", threshold=0.5)), (1.0,))
    assert settled.stages[0].threshold == 0.0
    assert found.keeps(settled) == (1.0,)


def test_tied_scores_leave_the_largest_share_that_is_not_too_much():
    scores = {((-1, 0), "norm"): torch.tensor([[1.0] * 5 + [3.0] * 5])}
    real = torch.ones(1, 10, dtype=torch.bool)
    found = Expected(Curves(scores, real, torch.zeros_like(real)))
    settled = found.settle(policy(Stage("input", "norm", threshold=0.5)), (0.7,))
    assert found.keeps(settled) == (0.5,)


def test_shares_and_thresholds_mix():
    mixed = policy(Stage("input", "norm", keep=0.6), Stage(2, "entropy", threshold=0.5), Stage(3, "norm", keep=0.1))
    found = Expected(curves())
    keeps = found.keeps(mixed)
    assert keeps[0] == 0.6
    assert 0.1 < keeps[1] < 0.6
    assert keeps[2] == 0.1
    removal = removal_of(mixed, keeps, 4)
    assert removal.tolist() == pytest.approx([-math.log(keep) for keep in (0.6, 0.6, keeps[1], 0.1)])
    counts = found.counts(mixed, 20, 2)
    assert counts == (12.0, pytest.approx(20 * keeps[1]), 2.0)


def test_shares_alone_need_no_curves():
    stages = Stage("input", "norm", keep=0.5), Stage(2, "entropy", keep=0.33, multiple=4)
    for found in (Expected(), Expected(curves())):
        assert found.keeps(policy(*stages)) == (0.5, 0.33)
        assert found.counts(policy(*stages), 30, 2) == policy(*stages).stage_counts(30, 2)
        assert found.settle(policy(*stages), (0.1, 0.1)) == policy(*stages)


def test_what_was_not_calibrated_counts_as_keeping_all():
    unknown = policy(Stage(1, "similarity", threshold=1.0))
    assert Expected(curves()).keeps(unknown) == (1.0,)
    assert Expected().keeps(unknown) == (1.0,)
    with pytest.raises(PolicyError, match="calibration curves"):
        Expected().settle(unknown, (0.5,))


def test_counts_at_given_shares_do_not_grow():
    stages = Stage("input", "norm", threshold=1.0), Stage(2, "norm", keep=0.9), Stage(3, "norm", mass=0.5)
    assert counts_at(policy(*stages), (0.5, 0.5, 0.01), 40, 3) == (20.0, 20.0, 3.0)
