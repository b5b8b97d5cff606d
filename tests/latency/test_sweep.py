from typing import Any

import numpy as np
import pytest
import torch

from autoprune.errors import MeasurementError
from autoprune.latency.sweep import (
    LayerClock,
    SweepPoint,
    elapsed_ms,
    flat_regions,
    layer_arms,
    split_layers,
    staircase,
    sweep_points,
)


def points(latency: dict[int, float]) -> list[SweepPoint]:
    full = latency[max(latency)]
    return [SweepPoint(n, ms, ms / full, (ms / full, ms / full)) for n, ms in sorted(latency.items())]


def test_points_are_clipped_to_the_length() -> None:
    assert sweep_points(256) == (2, 8, 16, 32, 64, 96, 128, 192, 256)
    assert sweep_points(20, 4) == (4, 5, 8, 10, 16, 20)
    assert sweep_points(3) == (2, 3)


def test_staircase_gives_ratios_with_intervals() -> None:
    rng = np.random.default_rng(0)
    samples = {n: (n * 1e5 * rng.lognormal(sigma=0.01, size=10)).astype(np.int64) for n in (64, 256)}
    low, full = staircase(samples)
    assert (low.tokens, full.tokens, full.ratio, full.ratio_ci) == (64, 256, 1.0, (1.0, 1.0))
    assert low.ms == pytest.approx(6.4, rel=0.02)
    assert low.ratio_ci[0] <= low.ratio <= low.ratio_ci[1]
    assert low.ratio == pytest.approx(0.25, rel=0.02)
    assert SweepPoint.from_dict(low.to_dict()) == low


def test_straight_line_has_no_flat_region() -> None:
    assert flat_regions(points({n: 2 + n / 5 for n in (2, 8, 16, 32, 64, 96, 128, 192, 256)})) == []


def test_flat_low_end_is_said_in_words() -> None:
    notes = flat_regions(points({n: max(20.0, n / 5) for n in (2, 8, 16, 32, 64, 96, 128, 192, 256)}))
    assert len(notes) == 1
    assert "does not fall below 96 tokens" in notes[0]


def test_flat_step_in_the_middle_is_said_in_words() -> None:
    latency = {2: 2.0, 32: 10.0, 64: 20.0, 96: 30.0, 128: 30.1, 192: 30.2, 256: 50.0}
    notes = flat_regions(points(latency))
    assert len(notes) == 1
    assert "between 96 and 192 tokens latency is flat" in notes[0]


def test_flat_everything_is_one_plain_sentence() -> None:
    notes = flat_regions(points({2: 9.0, 64: 9.2, 128: 9.5, 256: 10.0}))
    assert len(notes) == 1
    assert "hardly depends" in notes[0]
    assert "90%" in notes[0]


def test_layer_clock_marks_each_layer_of_each_run() -> None:
    now = {"at": 0}

    class Layer(torch.nn.Module):
        def __init__(self, ms: int) -> None:
            super().__init__()
            self.ms = ms

        def forward(self, x: Any) -> Any:
            now["at"] += self.ms * 1_000_000
            return x

    layers = [Layer(1), Layer(2), Layer(3)]

    def forward() -> None:
        now["at"] += 5_000_000
        for layer in layers:
            layer(None)
        now["at"] += 7_000_000

    clock = LayerClock(torch.nn.Module(), layers, lambda: now["at"])
    with layer_arms(clock, {16: forward}) as (arms, marks):
        arms["16"]()
        arms["16"]()
    assert [elapsed_ms(run) for run in marks[16]] == [[5, 1, 2, 3, 7]] * 2
    parts, around = split_layers(marks[16], total_ms=36.0)  # twice the sum: parts are scaled onto the whole
    assert list(parts) == [2, 4, 6]
    assert around == 24
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def test_model_without_layer_calls_is_refused() -> None:
    with LayerClock(torch.nn.Module(), []) as clock, pytest.raises(MeasurementError):
        clock.marks(lambda: None)
