"""The pick among noisy scores: KL says what to expect, a score corrects it by as much as it can be trusted."""

import numpy as np
import pytest

from autoprune.engine.posterior import expected_scores

EXAMPLES = 250


def draw(rng, count=30):
    """Return rows of policies near one another, and their true drops."""
    true = rng.uniform(0.01, 0.06, count)
    noise = np.sqrt(true * (1 - true) / EXAMPLES)
    seen = true + rng.normal(0, noise)
    kl = true * 4 * np.exp(rng.normal(0, 0.05, count))
    rows = [
        {"trial": i + 1, "score": 0.94 - d, "drop": d, "drop_ci95": [d - 1.96 * s, d + 1.96 * s], "kl": k}
        for i, (d, s, k) in enumerate(zip(seen, noise, kl, strict=True))
    ]
    return rows, true


def test_the_expected_score_picks_better_than_the_highest_score():
    lost = {"expected": [], "seen": []}
    for seed in range(40):
        rows, true = draw(np.random.default_rng(seed))
        lost["expected"].append(true[int(np.argmax(expected_scores(rows, rows)))] - true.min())
        lost["seen"].append(true[int(np.argmax([row["score"] for row in rows]))] - true.min())
    assert np.mean(lost["expected"]) < 0.7 * np.mean(lost["seen"])


def test_scores_without_noise_are_believed():
    rows, _ = draw(np.random.default_rng(0))
    for row in rows:
        row["drop_ci95"] = [row["drop"], row["drop"]]
    assert expected_scores(rows, rows) == pytest.approx([row["score"] for row in rows])


def test_few_policies_are_judged_by_their_scores():
    rows, _ = draw(np.random.default_rng(1), count=3)
    assert expected_scores(rows, rows) == [row["score"] for row in rows]


@pytest.mark.parametrize("count", [3, 30])
def test_where_nothing_is_within_the_budget_nothing_is_judged(count):
    rows, _ = draw(np.random.default_rng(0), count)
    assert expected_scores(rows, []) == []
