"""Values of options."""

import click
import pytest

from autoprune.cli.options import CountOr, DurationType, PercentType


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("10 min", 600), ("2H", 7200)])
def test_durations(text: str, seconds: float) -> None:
    assert DurationType().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "-5s", "0", "1d", "1h30m", "s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write it like 90s"):
        DurationType().convert(text, None, None)


def test_a_count_or_a_word() -> None:
    kind = CountOr("auto")
    assert kind.convert("auto", None, None) == "auto"
    assert kind.convert("12", None, None) == 12
    for text in ("0", "-1", "1.5", "many", "²"):
        with pytest.raises(click.BadParameter, match="'auto'"):
            kind.convert(text, None, None)


@pytest.mark.parametrize(("text", "share"), [("3%", 0.03), ("0.5 %", 0.005), ("0.02", 0.02), (0.1, 0.1)])
def test_shares_are_read(text: str | float, share: float) -> None:
    assert PercentType().convert(text, None, None) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "0", "0%", "1", "100%", "3", "-1%", "narrow"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write it like 3%"):
        PercentType().convert(text, None, None)
