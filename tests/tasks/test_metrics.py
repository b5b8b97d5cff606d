import numpy as np
import pytest

from autoprune.errors import ConfigError
from autoprune.tasks.metrics import Metric, metric_for

PRED = np.array([0, 1, 1, 2])
TRUE = np.array([0, 1, 2, 2])


@pytest.mark.parametrize(("name", "expected"), [("accuracy", 0.75), ("agreement", 0.75), ("f1", 7 / 9)])
def test_scores(name, expected):
    assert Metric(name).score(PRED, TRUE) == pytest.approx(expected)


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="cannot score"):
        Metric("accuracy").score(PRED[:0], TRUE[:0])


@pytest.mark.parametrize(
    ("asked", "labelled", "given"),
    [("accuracy", True, "accuracy"), ("f1", True, "f1"), ("f1", False, "agreement"), ("agreement", True, "agreement")],
)
def test_without_labels_agreement_is_left(asked, labelled, given):
    assert metric_for(asked, labelled=labelled).name == given


def test_unknown_metrics_are_refused():
    with pytest.raises(ConfigError, match="no metric called 'bleu'"):
        metric_for("bleu", labelled=False)
