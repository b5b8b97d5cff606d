"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from autoprune.budget import Budget

F = TypeVar("F", bound=Callable[..., Any])

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class BudgetType(click.ParamType[Budget]):
    """A latency budget; what cannot be one raises ``BudgetError`` with its own hint."""

    name = "budget"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Budget:
        """Return the value; what cannot be read is a usage error."""
        return Budget.parse(value)


class DurationType(click.ParamType[float]):
    """Seconds: ``90``, ``90s``, ``10m`` or ``1h``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the value; what cannot be read is a usage error."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", str(value).strip().lower())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is not a duration; write it like 90s, 10m or 1h.", param, ctx)
        return float(match[1]) * _SECONDS[match[2] or ""]


class PercentType(click.ParamType[float]):
    """A share over 0 and under 1: ``3%`` or ``0.03``."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share; what cannot be read is a usage error."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%)?", str(value).strip())
        share = float(match[1]) / (100 if match[2] else 1) if match else 0.0
        if not 0 < share < 1:
            self.fail(f"{value!r} is not a share over 0 and under 1; write it like 3% or 0.03.", param, ctx)
        return share


class CountsType(click.ParamType["tuple[int, ...]"]):
    """Whole numbers from 1 with commas between them: ``1,8,32``."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers, ascending; what cannot be read is a usage error."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and int(part) >= 1 for part in parts):
            self.fail(f"{value!r} are not whole numbers from 1; write them like 1,8,32.", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


class CountOr(click.ParamType["int | str | tuple[int, ...]"]):
    """A whole number from 1, or one word.

    Args:
        word: The word.
        several: Whether a list of numbers, separated by commas, will do as well.
    """

    def __init__(self, word: str, *, several: bool = False) -> None:
        self.word, self.several = word, several
        self.name = f"number|{word}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str | tuple[int, ...]:
        """Return the value; what cannot be read is a usage error."""
        if value == self.word:
            return self.word
        parts = str(value).split(",") if self.several else [str(value)]
        if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
            lists = ", nor a list of such (64,128)" if self.several else ""
            self.fail(f"{value!r} is neither {self.word!r} nor a whole number from 1{lists}.", param, ctx)
        numbers = tuple(map(int, parts))
        return numbers if len(numbers) > 1 else numbers[0]


def stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator for several options, in the order in which ``--help`` shows them."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


json_option = click.option(
    "--json", is_flag=True, expose_value=False, help="Print one JSON document on stdout and nothing else."
)

ray_option = click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="A running Ray cluster, or `auto`; nodes with the resource autoprune_timer do the timing.",
)

db_option = click.option(
    "--db",
    envvar="AUTOPRUNE_DB",
    metavar="URL|FILE",
    help="Database; default $AUTOPRUNE_DB, else the file that `autoprune db path` prints.",
)

task_options = stacked(
    click.option("--model", metavar="DIR|HUB_ID", help="Text classifier; default the embedded quickstart."),
    click.option("--dataset", metavar="FILE|NAME", help="CSV, JSONL, Parquet, `datasets` folder, or hub name."),
    click.option("--task", default="text-classification", show_default=True, help="Task kind."),
    click.option(
        "--metric",
        type=click.Choice(["accuracy", "f1"]),
        default="accuracy",
        show_default=True,
        help="Score: accuracy, or macro F1; without labels it is agreement with dense.",
    ),
    click.option("--split", metavar="NAME", help="Split of the data set to score on."),
    click.option("--text-column", "text_columns", multiple=True, metavar="NAME", help="Text column; twice for pairs."),
    click.option("--label-column", metavar="NAME", help="Label column."),
    click.option("--trust-remote-code", is_flag=True, help="Let the model's own code run on this machine."),
)

workload_options = stacked(
    click.option("--batch-size", type=click.IntRange(1, 4096), default=1, show_default=True, help="Texts per forward."),
    click.option(
        "--seq-len",
        type=CountOr("data", several=True),
        metavar="N[,N...]|data",
        help="Tokens per timed text, a list of lengths, or `data` for the data set's; default the task's own.",
    ),
    click.option(
        "--threads",
        type=CountOr("auto"),
        default="auto",
        show_default=True,
        metavar="N|auto",
        help="CPU threads of a forward; auto tries them.",
    ),
    click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Torch device."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "int8"]),
        default="float32",
        show_default=True,
        help="Number type.",
    ),
    click.option(
        "--attention",
        type=click.Choice(["sdpa", "eager", "flash_attention_2", "flex_attention"]),
        default="sdpa",
        show_default=True,
        help="Attention backend of transformers.",
    ),
    click.option(
        "--runtime",
        type=click.Choice(["eager", "compile", "onnxruntime"]),
        default="eager",
        show_default=True,
        help="What runs a forward: PyTorch as it is, torch.compile, or ONNX Runtime (extra onnx; float32, CPU).",
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of everything random."
    ),
)
