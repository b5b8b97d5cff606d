"""``CostTable``: what any policy will take on this machine, from a few measured points. It steers; it never reports."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import MeasurementError
from autoprune.latency.stats import row_statistic
from autoprune.policy import PruningPolicy, Stage
from autoprune.spaces.choices import label_of, label_of_stage

Points = tuple[tuple[int, float], ...]
"""(tokens, ms), tokens ascending."""

Counts = Callable[[PruningPolicy, int, int], Sequence[float]]
"""Tokens left after each stage of a policy, from the tokens per row of the input and how many never leave."""

_NOMINAL: Counts = PruningPolicy.stage_counts


@dataclass(frozen=True)
class Line:
    """A cost that grows with the tokens: ``base_ms + per_token_ms * tokens``, never under zero."""

    base_ms: float
    per_token_ms: float = 0.0

    def at(self, tokens: float) -> float:
        """Return the cost in milliseconds."""
        return max(0.0, self.base_ms + self.per_token_ms * tokens)

    def times(self, factor: float) -> Line:
        """Return the cost times a factor."""
        return Line(self.base_ms * factor, self.per_token_ms * factor)

    @classmethod
    def through(cls, points: Iterable[tuple[float, float]]) -> Line:
        """Return the least-squares line through (tokens, ms), flat if they have one token count or it falls."""
        tokens, ms = (np.asarray(side, dtype=np.float64) for side in zip(*points))
        if np.ptp(tokens) == 0:
            return cls(float(ms.mean()))
        slope, base = (float(v) for v in np.polyfit(tokens, ms, 1))
        return cls(base, slope) if slope >= 0 else cls(float(ms.mean()))


@dataclass(frozen=True)
class CostTable:
    """Latency of a model on one workload, by layer and token count, in milliseconds per forward.

    Between measured points costs are interpolated linearly; above the last one the last slope goes
    on; below the first one the first value holds (there latency is flat).

    Attributes:
        tokens: Measured token counts per row, ascending, at least one.
        layers_ms: One row per layer, one entry per token count.
        around_ms: Embedding, head and what else is outside the layers, per token count.
        first_token: (tokens, ms) of the last layer when it computes the first token alone; empty: not possible.
        scorers: Cost of scoring and selecting, by ``label@input`` or ``label@layer``, against the tokens scored.
            The label is the name, with parameters in brackets where they are not the defaults.
        reducers: Cost beyond ``drop``, by label.
        attention_share: Share of a layer's time spent before ``after_attention`` stages act.
        factors: Measured over predicted by method, from ``recalibrate``.
    """

    tokens: tuple[int, ...]
    layers_ms: tuple[tuple[float, ...], ...]
    around_ms: tuple[float, ...]
    first_token: Points = ()
    scorers: Mapping[str, Line] = field(default_factory=dict)
    reducers: Mapping[str, Line] = field(default_factory=dict)
    attention_share: float = 0.4
    factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tokens or list(self.tokens) != sorted(set(self.tokens)):
            raise MeasurementError("A cost table needs ascending token counts.")
        if any(len(row) != len(self.tokens) for row in (*self.layers_ms, self.around_ms)):
            raise MeasurementError("A cost table needs one value per token count in each row.")

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return len(self.layers_ms)

    def layer(self, index: int, tokens: float) -> float:
        """Return the time of one layer on ``tokens`` per row, in milliseconds."""
        return _interpolate(self.tokens, self.layers_ms[index], tokens)

    def around(self, tokens: float) -> float:
        """Return the time outside the layers when ``tokens`` per row are embedded, in milliseconds."""
        return _interpolate(self.tokens, self.around_ms, tokens)

    def dense(self, n_tokens: int) -> float:
        """Return the time of the model without a policy, in milliseconds."""
        return self.around(n_tokens) + sum(self.layer(index, n_tokens) for index in range(self.n_layers))

    def predict(self, policy: PruningPolicy, n_tokens: int, n_protected: int, counts: Counts = _NOMINAL) -> float:
        """Return the predicted latency of a policy in milliseconds.

        Args:
            policy: The policy. A method whose parameters were not measured costs what it does with its defaults;
                scorers that were not measured at all cost what the dearest measured one does.
            n_tokens: Tokens per row of the input.
            n_protected: How many of them never leave.
            counts: Says how many tokens stages leave, where ``threshold`` and ``mass`` depend on the scores;
                left out, those keep all.
        """
        after = list(counts(policy, n_tokens, n_protected))
        total = self._ideal(policy, n_tokens, after) + self._overhead(policy, n_tokens, after)
        return total * self._factor(method_of(policy))

    def ideal(self, policy: PruningPolicy, n_tokens: int, n_protected: int) -> float:
        """Return the ideal latency: dense parts at the token counts the policy leaves, nothing for scoring."""
        return self._ideal(policy, n_tokens, list(policy.stage_counts(n_tokens, n_protected)))

    def predict_ratio(self, policy: PruningPolicy, n_tokens: int, n_protected: int) -> float:
        """Return predicted latency over that of dense."""
        return self.predict(policy, n_tokens, n_protected) / self.dense(n_tokens)

    def predict_statistic(
        self,
        policy: PruningPolicy,
        lengths: Sequence[int],
        n_protected: int,
        statistic: str = "p50",
        counts: Counts = _NOMINAL,
    ) -> float:
        """Return the predicted statistic over a workload's lengths, in milliseconds."""
        known = {length: self.predict(policy, length, n_protected, counts) for length in set(lengths)}
        if len(known) == 1:
            return known[lengths[0]]
        each = np.asarray([[known[length] for length in lengths]], dtype=np.float64)
        return float(row_statistic(each, statistic)[0])

    def recalibrate(
        self, pairs: Iterable[tuple[PruningPolicy, int, int, float]], counts: Counts = _NOMINAL
    ) -> CostTable:
        """Return a table corrected by measured policies: one factor per method.

        A method's factor is the geometric mean of measured / predicted of its policies and one
        imagined policy that the table predicted rightly, so that a single noisy pair cannot bend it far.

        Args:
            pairs: (policy, tokens per row, protected tokens, measured milliseconds).
            counts: As in ``predict``.
        """
        plain = replace(self, factors={})
        logs: dict[str, list[float]] = {}
        for policy, n_tokens, n_protected, measured in pairs:
            logs.setdefault(method_of(policy), []).append(
                math.log(measured / plain.predict(policy, n_tokens, n_protected, counts))
            )
        return replace(self, factors={name: math.exp(sum(found) / (len(found) + 1)) for name, found in logs.items()})

    def with_costs(self, scorers: Mapping[str, Line], reducers: Mapping[str, Line]) -> CostTable:
        """Return a table that knows the costs of more scorers and reducers."""
        return replace(self, scorers={**self.scorers, **scorers}, reducers={**self.reducers, **reducers})

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON types; ``from_dict`` gives it back."""
        return {
            **asdict(replace(self, scorers={}, reducers={}, factors={})),
            "scorers": {name: asdict(line) for name, line in self.scorers.items()},
            "reducers": {name: asdict(line) for name, line in self.reducers.items()},
            "factors": dict(self.factors),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CostTable:
        """Read what ``to_dict`` wrote.

        Raises:
            MeasurementError: Fields are unknown or missing.
        """
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown or not {"tokens", "layers_ms", "around_ms"} <= set(data):
            raise MeasurementError(f"This is no cost table: unknown fields {unknown or 'none'}.")
        lines = {
            name: {key: Line(**line) for key, line in data.get(name, {}).items()} for name in ("scorers", "reducers")
        }
        return cls(
            tokens=tuple(data["tokens"]),
            layers_ms=tuple(tuple(row) for row in data["layers_ms"]),
            around_ms=tuple(data["around_ms"]),
            first_token=tuple((int(n), float(ms)) for n, ms in data.get("first_token", ())),
            attention_share=float(data.get("attention_share", 0.4)),
            factors=dict(data.get("factors", {})),
            **lines,
        )

    def _ideal(self, policy: PruningPolicy, n_tokens: int, after: list[float]) -> float:
        embedded, entering, saved = float(n_tokens), [float(n_tokens)] * self.n_layers, 0.0
        before = float(n_tokens)
        for stage, count in zip(policy.stages, after, strict=True):
            place, inside = stage.depth
            if place < 0:
                embedded = count
            elif inside and place < self.n_layers:
                saved += (1 - self.attention_share) * (self.layer(place, before) - self.layer(place, count))
            for layer in range(max(0, place + inside), self.n_layers):
                entering[layer] = count
            before = count
        layers = [self.layer(index, count) for index, count in enumerate(entering)]
        if policy.last_layer == "first_token" and self.first_token:
            tokens, values = [n for n, _ in self.first_token], [ms for _, ms in self.first_token]
            layers[-1] = _interpolate(tokens, values, entering[-1])
        return self.around(embedded) + sum(layers) - saved

    def _overhead(self, policy: PruningPolicy, n_tokens: int, after: list[float]) -> float:
        total, before, paid = 0.0, float(n_tokens), set[str]()
        for stage, count in zip(policy.stages, after, strict=True):
            if stage.keep != 1.0:
                label = label_of(stage.reduce, stage.reduce_params)
                reducer = self.reducers.get(label, self.reducers.get(stage.reduce))
                scorer = self._scorer(stage) if _asks_scorer(stage, paid) else self._cheapest()
                total += scorer.at(before) + (reducer.at(before) if reducer else 0.0)
            before = count
        return total

    def _cheapest(self) -> Line:
        """Return what selecting costs where nothing is scored: the line of the cheapest scorer."""
        return min(self.scorers.values(), key=lambda line: line.at(self.tokens[-1]), default=Line(0.0))

    def _scorer(self, stage: Stage) -> Line:
        places = ("input", "layer") if stage.layer == "input" else ("layer", "input")
        for method in (label_of_stage(stage), stage.scorer):
            for place in places:
                if f"{method}@{place}" in self.scorers:
                    return self.scorers[f"{method}@{place}"]
        return max(self.scorers.values(), key=lambda line: line.at(self.tokens[-1]), default=Line(0.0))

    def _factor(self, method: str) -> float:
        if method in self.factors or not self.factors:
            return self.factors.get(method, 1.0)
        # An unseen mixture: between the factors of methods that share a part with it.
        parts = set(method.split("+"))
        near = [math.log(factor) for name, factor in self.factors.items() if parts & set(name.split("+"))]
        return math.exp(sum(near) / len(near)) if near else 1.0


def _asks_scorer(stage: Stage, paid: set[str]) -> bool:
    """Whether a stage runs its scorer; ``paid`` collects the scorers that run once per forward.

    With ``keep``, a reducer that matches by itself never asks; the gradient of ``saliency`` serves all stages.
    """
    if stage.keep is not None and stage.reduce in REDUCERS and not REDUCERS.get(stage.reduce).uses_scores:
        return False
    if stage.scorer in SCORERS and "saliency" in SCORERS.get(stage.scorer).needs:
        if stage.scorer in paid:
            return False
        paid.add(stage.scorer)
    return True


def method_of(policy: PruningPolicy) -> str:
    """Return the name of a policy's method for calibration: scorers, selectors other than ``keep``, ``first_token``."""
    parts = {stage.scorer for stage in policy.stages}
    parts |= {stage.selector for stage in policy.stages if stage.selector != "keep"}
    if policy.last_layer == "first_token":
        parts.add("first_token")
    return "+".join(sorted(parts)) or "dense"


def _interpolate(tokens: Sequence[int], values: Sequence[float], at: float) -> float:
    if at > tokens[-1] and len(tokens) > 1:
        slope = (values[-1] - values[-2]) / (tokens[-1] - tokens[-2])
        return max(values[-1], values[-1] + slope * (at - tokens[-1]))
    # np.interp, to the bit, in a fraction of its time for one number.
    left = bisect_right(tokens, at) - 1
    if left < 0 or tokens[left] == at or left == len(tokens) - 1:
        return float(values[max(left, 0)])
    slope = (values[left + 1] - values[left]) / (tokens[left + 1] - tokens[left])
    return float(slope * (at - tokens[left]) + values[left])
