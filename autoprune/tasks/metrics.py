"""Scores of predictions; higher is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from autoprune.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

METRICS = ("accuracy", "f1")  # what a user may ask for; agreement is what is left without labels


@dataclass(frozen=True)
class Metric:
    """A score of predicted classes against labels.

    Attributes:
        name: ``accuracy``, ``f1`` (macro, over the classes that occur in the labels or predictions), or
            ``agreement`` (accuracy with the dense model's predictions as labels).
    """

    name: Literal["accuracy", "f1", "agreement"]

    def score(self, pred: np.ndarray, labels: np.ndarray) -> float:
        """Return the score from 0 to 1, higher is better.

        Args:
            pred: Predicted classes, (n,) int.
            labels: True classes, or dense's predictions for ``agreement``; (n,) int.

        Raises:
            ValueError: The shapes differ, or there is nothing to score.
        """
        if pred.shape != labels.shape or pred.size == 0:
            raise ValueError(f"cannot score predictions of shape {pred.shape} against labels of shape {labels.shape}")
        if self.name == "f1":
            from sklearn.metrics import f1_score

            return float(f1_score(labels, pred, average="macro"))
        return float((pred == labels).mean())


def metric_for(name: str, *, labelled: bool) -> Metric:
    """Return the metric called ``name``, or agreement when there are no labels.

    Raises:
        ConfigError: There is no such metric.
    """
    if name not in METRICS and name != "agreement":
        raise ConfigError(f"There is no metric called {name!r}.", f"Known: {', '.join(METRICS)}.")
    if name == "agreement" or not labelled:
        return Metric("agreement")
    return Metric("f1" if name == "f1" else "accuracy")
