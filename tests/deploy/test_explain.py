"""``explain`` says which tokens left, and where."""

from pathlib import Path

import pytest

from autoprune.deploy.explain import explain
from autoprune.errors import InputError

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
