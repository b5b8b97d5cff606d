"""Tables, lexicons, counts and schedules."""

from pathlib import Path

import pytest
import torch

from autoprune.errors import AssetError, ConfigError, DataError, PolicyError, UnsupportedModelError
from autoprune.pruning import TableSet, build_lexicon, table_key
from autoprune.pruning.counts import count_ids, stopword_table
from autoprune.pruning.lexicon import shrunk
from autoprune.pruning.schedules import constant_removal, free, geometric, linear, single_cut
from autoprune.testing.tiny import VOCABULARY, build, inputs, tiny

BERT = tiny("BERT")


def test_tables_are_named_by_content_and_survive_a_file(tmp_path: Path) -> None:
    tables = TableSet()
    one = tables.add({"importance": torch.rand(9), "flags": torch.ones(3, dtype=torch.bool)})
    two = tables.add({"count": torch.arange(4)})
    assert one.startswith("sha256:")
    assert tables.add(dict(tables[one])) == one
    assert table_key({"count": torch.arange(4).float()}) != two
    tables.save(tmp_path / "t.safetensors")
    again = TableSet.load(tmp_path / "t.safetensors")
    assert set(again) == {one, two}
    assert torch.equal(again[one]["importance"], tables[one]["importance"])
    assert len(TableSet.from_bytes(TableSet().to_bytes())) == 0


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    tables = TableSet()
    tables.add({"importance": torch.rand(9)})
    data = bytearray(tables.to_bytes())
    data[-1] ^= 1
    with pytest.raises(AssetError, match="hash"):
        TableSet.from_bytes(bytes(data))
    with pytest.raises(AssetError):
        TableSet.from_bytes(b"nonsense")
    with pytest.raises(AssetError):
        TableSet.load(tmp_path / "missing")
    with pytest.raises(AssetError):
        tables.add({})


@pytest.mark.parametrize("method", ["gradient", "attention", "leave_one_out"])
def test_lexicon_learns_and_leaves_the_model_alone(method: str) -> None:
    model, batch = build(BERT, head=True), inputs(BERT)
    seen: list[int] = []
    with torch.inference_mode():
        lexicon = build_lexicon(model, [batch, batch], method=method, progress=seen.append)["importance"]
    assert seen == [3, 6]
    assert lexicon.shape == (VOCABULARY,)
    assert bool((lexicon >= 0).all() and torch.isfinite(lexicon).all())
    assert len(lexicon.unique()) > 5
    assert all(p.grad is None for p in model.parameters())
    assert model.config._attn_implementation == "sdpa"
    assert not any(m._forward_hooks for m in model.modules())


def test_lexicon_does_not_depend_on_padding() -> None:
    model, batch = build(BERT, head=True), inputs(BERT)
    rows = [{k: v[i : i + 1, : int(batch["attention_mask"][i].sum())] for k, v in batch.items()} for i in range(3)]
    for method in ("gradient", "attention", "leave_one_out"):
        one, two = (build_lexicon(model, b, method=method)["importance"] for b in ([batch], rows))
        torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3)


def test_gradient_lexicon_against_plain_autograd() -> None:
    model = build(BERT, head=True)
    ids = torch.tensor([[1, 30, 31, 32, 33, 2]])
    lexicon = build_lexicon(model, [{"input_ids": ids}], method="gradient", prior_strength=0.0)["importance"]
    words = model.bert.embeddings.word_embeddings.weight[ids].detach().requires_grad_(True)
    logits = model(inputs_embeds=words).logits[0]
    best = int(logits.argmax())
    rest = torch.stack([logit for label, logit in enumerate(logits) if label != best])
    odds = logits[best] - rest.exp().sum().log()
    odds.backward()
    want = torch.tensor([float((g * w).square().sum().sqrt()) for g, w in zip(words.grad[0], words[0].detach())])
    torch.testing.assert_close(lexicon[ids[0]], want / want.mean(), atol=1e-4, rtol=1e-4)


def test_leave_one_out_against_a_loop() -> None:
    model = build(BERT, head=True)
    ids = torch.tensor([[1, 30, 31, 32, 2]])
    lexicon = build_lexicon(model, [{"input_ids": ids}], method="leave_one_out", prior_strength=0.0)["importance"]
    with torch.no_grad():
        full = model(input_ids=ids).logits.softmax(-1)
        harm = []
        for column in range(5):
            mask = torch.ones(1, 5)
            mask[0, column] = 0
            less = model(input_ids=ids, attention_mask=mask).logits.softmax(-1)
            harm.append(float((full * (full / less).log()).sum()))
    want = torch.tensor(harm) / (sum(harm) / 5)
    torch.testing.assert_close(lexicon[ids[0]], want, atol=1e-4, rtol=1e-3)


def test_rare_ids_are_shrunk_towards_the_mean() -> None:
    found = shrunk(torch.tensor([10.0, 3.0, 0.0]), torch.tensor([10.0, 1.0, 0.0]), 2.0)
    mean = 13 / 11
    torch.testing.assert_close(found, torch.tensor([(10 + 2 * mean) / 12, (3 + 2 * mean) / 3, mean]))


def test_lexicon_bad_input() -> None:
    model = build(BERT, head=True)
    with pytest.raises(ConfigError):
        build_lexicon(model, [], method="magic")
    with pytest.raises(ConfigError):
        build_lexicon(model, [], prior_strength=-1)
    with pytest.raises(DataError):
        build_lexicon(model, [])
    with pytest.raises(UnsupportedModelError):
        build_lexicon(build(tiny("ViT")), [])
    with pytest.raises(UnsupportedModelError, match="logits"):
        build_lexicon(build(BERT), [inputs(BERT)])


def test_counts_and_stopwords() -> None:
    batch = {
        "input_ids": torch.tensor([[1, 5, 5, 2], [1, 7, 2, 0]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
    }
    count = count_ids([batch], 9)["count"]
    assert count.tolist() == [0, 2, 2, 0, 0, 2, 0, 1, 0]
    with pytest.raises(DataError):
        count_ids([], 9)

    class Words:
        unk_token_id = 0

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return {"the": [3], "The": [4], "of": [0]}.get(text, [7, 8])

    assert stopword_table(Words(), 9)["stopword"].nonzero().flatten().tolist() == [3, 4]
    derived = stopword_table(None, 9, counts=torch.arange(9.0), top=2)["stopword"]
    assert derived.nonzero().flatten().tolist() == [7, 8]


def test_schedules() -> None:
    assert [s.keep for s in single_cut(2, 0.4, "norm")] == [0.4]
    assert [(s.layer, s.keep) for s in geometric([3, 6, 9], 0.5, "norm")] == [(3, 0.5), (6, 0.25), (9, 0.125)]
    assert [(s.layer, round(s.keep, 3)) for s in linear(6, 0.4, "norm")] == [(3, 0.8), (4, 0.6), (5, 0.4)]
    constant = constant_removal(4, 100, 10, "norm", first=1)
    assert [(s.layer, round(s.keep, 3)) for s in constant] == [(1, 0.9), (2, 0.8), (3, 0.7)]
    rising = [s.keep for s in constant_removal(4, 100, 10, "norm", first=1, inflection=1.0)]
    assert [round(k, 3) for k in rising] == [1.0, 0.9, 0.7]
    assert [s.layer for s in free({2: 0.5, "input": 0.9}, "norm", reduce="drop")] == ["input", 2]
    for wrong in (
        lambda: free({1: 0.5, 2: 0.6}, "norm"),
        lambda: geometric([1], 1.5, "norm"),
        lambda: linear(3, 0.5, "norm"),
        lambda: constant_removal(4, 100, 0, "norm"),
    ):
        with pytest.raises(PolicyError):
            wrong()
