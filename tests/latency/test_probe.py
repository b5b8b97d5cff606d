"""The probe on a tiny BERT: what it holds together, never how fast this machine is."""

import json
from typing import Any

import pytest
import torch

from autoprune.errors import MeasurementError, UnsupportedModelError
from autoprune.latency import probe as room
from autoprune.latency.overheads import QUICK_SCORERS
from autoprune.latency.probe import ProbeResult, probe
from autoprune.latency.reprobe import covers
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.attach import attach
from autoprune.spaces.choices import ReducerChoice, ScorerChoice

WORKLOAD = Workload.fixed(64, 2)


@pytest.fixture(scope="module")
def found() -> ProbeResult:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, vocab_size=100,
        pad_token_id=0, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    ids = torch.randint(5, 100, (2, 1, 64))
    ids[:, :, 0], ids[:, :, -1] = 1, 2
    inputs = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]
    said: list[str] = []
    result = probe(
        BertForSequenceClassification(config).eval(),
        inputs,
        WORKLOAD,
        progress=said.append,
        tokenize=lambda index: inputs[index],
    )
    assert {"dense and the floor", "latency against tokens", "what scoring costs"} <= set(said)
    return result


def test_staircase_ends_at_the_full_length(found: ProbeResult) -> None:
    assert [p.tokens for p in found.sweep] == [2, 8, 16, 32, 64]
    assert found.sweep[-1].ratio == 1.0
    assert all(point.ms > 0 for point in found.sweep)


def test_table_adds_up_to_the_sweep(found: ProbeResult) -> None:
    assert found.cost_table.n_layers == 3
    for point in found.sweep:
        assert found.cost_table.dense(point.tokens) == pytest.approx(point.ms)


def test_every_scorer_that_fits_was_measured(found: ProbeResult) -> None:
    assert {name.split("@")[0] for name in found.scorer_ms} == set(QUICK_SCORERS)
    assert "cls_attention@layer" in found.scorer_ms
    assert "cls_attention@input" not in found.scorer_ms
    assert "fuse" in found.cost_table.reducers
    lexicon = Stage("input", "lexicon", keep=0.5, params={"table": "sha256:x"})
    policy = PruningPolicy((lexicon, Stage(2, "random", keep=0.3)))
    assert found.cost_table.predict(policy, 64, 2) > found.cost_table.ideal(policy, 64, 2) > 0


def test_parameters_are_measured_beside_the_defaults(bert: Any, make_batch: Any) -> None:
    scorers = ["norm", "received_attention", ScorerChoice(scorer="received_attention", params={"method": "exact"})]
    reducers = [ReducerChoice(reduce="merge", params={"metric": "keys"}), "merge", "merge"]
    found = probe(bert, [make_batch(32)] * 2, WORKLOAD, scorers=scorers, reducers=reducers, tokens=(8, 32))
    places = {"norm@layer", "received_attention@layer", "received_attention(method=exact)@layer"}
    assert set(found.scorer_ms) == places
    assert set(found.cost_table.reducers) == {"drop", "merge", "merge(metric=keys)"}
    assert covers(found, scorers, reducers)
    assert not covers(found, [ScorerChoice(scorer="norm", params={"of": "value"})], [])


def test_floor_is_the_strongest_policy_and_is_measured(found: ProbeResult, bert: Any, make_batch: Any) -> None:
    assert found.floor_policy.last_layer == "first_token"
    assert found.floor_policy.stages[0].layer == "input"
    low, high = found.floor_ratio_ci
    assert low <= found.floor_ratio <= high
    assert found.floor_ms == pytest.approx(found.floor_ratio * found.dense.p50)
    with attach(bert, found.floor_policy) as handle, handle.record() as trace:
        bert(**make_batch(64))
    assert trace.layer_lengths == [2, 2, 2]


def test_shortcut_of_the_last_layer_is_in_the_table(found: ProbeResult) -> None:
    assert len(found.cost_table.first_token) == 4
    assert found.cost_table.first_token[-1][0] == 64


def test_resources_ride_along(found: ProbeResult) -> None:
    assert found.dense_flops is not None
    assert found.dense_flops > 0
    assert found.model_bytes > 0
    assert found.end_to_end_ms is not None
    assert found.memory_peak is None


def test_json_round_trip_and_lines(found: ProbeResult) -> None:
    again = ProbeResult.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    text = "\n".join(found.lines())
    for word in ("dense", "64 tokens", "floor", "scoring", "end to end"):
        assert word in text
    with pytest.raises(MeasurementError, match="format"):
        ProbeResult.from_dict({"schema": 99})


def test_model_is_left_as_it_was(bert: Any, make_batch: Any) -> None:
    batch = make_batch(16)
    before, threads = bert(**batch).logits, torch.get_num_threads()
    result = probe(bert, [batch], Workload.fixed(16, 1), scorers=(), reducers=(), tokens=(4, 16, 99))
    assert torch.equal(bert(**batch).logits, before)
    assert torch.get_num_threads() == threads
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in bert.modules())
    assert [p.tokens for p in result.sweep] == [4, 16]
    assert result.scorer_ms == {}


def test_model_whose_head_reads_all_tokens_has_no_shortcut(make_batch: Any) -> None:
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=100
    )
    model = BertForTokenClassification(config).eval()
    with pytest.warns(UserWarning, match="special tokens"):
        result = probe(model, [make_batch(16)], Workload.fixed(16, 1), scorers=(), reducers=())
    assert result.floor_policy.last_layer == "full"
    assert result.cost_table.first_token == ()


def test_dense_forwards_are_few(bert: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    hook = bert.register_forward_pre_hook(lambda *_, **__: calls.append(1))
    monkeypatch.setattr(room, "machine_warnings", lambda **_: [])
    probe(bert, [make_batch(32)] * 4, Workload.fixed(32, 4), scorers=(), reducers=())
    hook.remove()
    points, warm_ups = 5 + 4, 4 * 3 + 5
    assert len(calls) <= 20 * points + warm_ups


def test_bad_requests_are_refused(bert: Any, make_batch: Any) -> None:
    with pytest.raises(MeasurementError, match="no input"):
        probe(bert, [], WORKLOAD)
    bert.config.model_type = "swin"
    with pytest.raises(UnsupportedModelError, match="swin"):
        probe(bert, [make_batch(8)], WORKLOAD)


@pytest.mark.parametrize("runtime", ["eager", "compile"])
def test_layers_of_a_compiled_model_are_marked_in_eager_runs_alone(
    make_bert: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    hooked: dict[str, set[bool]] = {"eager": set(), "compile": set()}
    model = make_bert()

    def stand_in(ran: Any, workload: Workload, *_: Any) -> Any:
        def run(batch: Any) -> Any:
            if ran is model:
                hooked[workload.runtime].add(any(m._forward_pre_hooks for m in model.modules()))
            return ran(**batch)

        return run

    monkeypatch.setattr(room, "make_runner", stand_in)
    batch = make_batch(32)
    result = probe(model, [batch], Workload.fixed(32, 1, runtime=runtime), scorers=(), reducers=(), tokens=(8, 32))
    assert result.cost_table.n_layers == 3
    for point in result.sweep:
        assert result.cost_table.dense(point.tokens) == pytest.approx(point.ms)
    if runtime == "compile":
        assert hooked == {"compile": {False}, "eager": {True}}
    else:
        assert hooked["eager"] == {False, True}


def test_a_disturbed_dense_is_measured_again(monkeypatch: pytest.MonkeyPatch, bert: Any, make_batch: Any) -> None:
    calls = []
    floor = room._Prober.floor

    def counted(self):
        calls.append(1)
        return floor(self)

    monkeypatch.setattr(room._Prober, "floor", counted)
    monkeypatch.setattr(room._Prober, "apart", lambda self, timing, table: 0.5)
    inputs = [make_batch(64), make_batch(64)]
    found = room.probe(bert, inputs, WORKLOAD, scorers=(), reducers=())
    assert len(calls) == 2
    assert any("differ by over 10 %" in note for note in found.notes)
    calls.clear()
    monkeypatch.setattr(room._Prober, "apart", lambda self, timing, table: 0.05)
    room.probe(bert, inputs, WORKLOAD, scorers=(), reducers=())
    assert len(calls) == 1
