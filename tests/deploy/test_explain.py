"""``explain`` says which tokens left, and where."""

from pathlib import Path
from typing import Any

import pytest
from transformers import RobertaConfig, RobertaForSequenceClassification

from autoprune.deploy.explain import explain
from autoprune.deploy.save import save_pruned
from autoprune.errors import InputError
from autoprune.policy import PruningPolicy, Stage

TEXT = "the cat sat on the mat and then it was very happy under the good tree"


def test_the_stages_add_up(exported: Path) -> None:
    found = explain(exported, TEXT)
    n = len(found["tokens"])
    assert n == len(TEXT.split()) + 2
    assert found["tokens"][0] == "[CLS]"
    first, second = found["stages"]
    assert (first["layer"], second["layer"]) == ("input", 1)
    assert sorted(first["kept"] + first["left"]) == list(range(n))
    assert first["tokens"] == len(first["kept"]) == -(-7 * n // 10)
    assert set(second["kept"]) | set(second["left"]) == set(first["kept"])
    assert second["tokens"] == len(second["kept"]) + 1 == -(-n // 2)  # one of them is the fused token
    assert {0, n - 1} <= set(second["kept"])
    assert found["layer_lengths"][0] == first["tokens"]
    assert found["label"] in ("calm", "lively", "odd")


def test_an_empty_text_is_refused(exported: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        explain(exported, "  ")


def test_a_text_over_robertas_limit_is_cut(tiny: Any, tmp_path: Path) -> None:
    config = RobertaConfig(**{**tiny.model.config.to_dict(), "max_position_embeddings": 42, "pad_token_id": 1})
    policy = PruningPolicy((Stage(1, "random", keep=0.5),))
    tiny.tokenizer.model_max_length = 10**30
    folder = save_pruned(RobertaForSequenceClassification(config), tiny.tokenizer, policy, tmp_path / "roberta")
    found = explain(folder, " ".join([TEXT] * 9))
    assert len(found["tokens"]) == 40
    assert found["stages"][0]["tokens"] == 20
