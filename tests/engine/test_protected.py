"""What predictions take for protected is what the engine protects."""

from types import SimpleNamespace
from typing import Any, cast

import torch

from autoprune.engine import session
from autoprune.latency import probe
from autoprune.policy import Protect
from autoprune.testing.tiny import build, tiny

UNKNOWN = 3


class _Tokenizer:
    all_special_ids = (0, 1, 2, UNKNOWN)
    unk_token_id = UNKNOWN

    def get_vocab(self) -> dict[str, int]:
        return {f"w{i}": i for i in range(10, 60)} | {f"Name{i}": i for i in range(60, 120)}


def test_unknown_words_are_text_and_a_pattern_counts() -> None:
    batch = {"input_ids": torch.tensor([[1, UNKNOWN, 12, 60, 61, UNKNOWN, 2]])}
    task = cast(Any, SimpleNamespace(model=build(tiny("BERT")), tokenizer=_Tokenizer()))
    assert session._protected(task, Protect(), [batch]) == 2
    assert session._protected(task, Protect(pattern="^Name"), [batch]) == 4
    assert session._protected(task, Protect(prefix=3), [batch]) == 4
    assert probe._protected(task.model, batch, task.tokenizer) == 2
