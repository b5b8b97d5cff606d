"""Hypothesis: random policies on random batches."""

import json
import warnings

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune._registry import REDUCERS
from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.pruning.methods import takes_table
from autoprune.pruning.schedules import constant_removal, geometric, linear
from autoprune.pruning.selectors import first, keep_counts, ranking, scored_counts
from autoprune.testing.suite import pruned, tables
from autoprune.testing.tiny import N_LAYERS, build, inputs, one_row, tiny

BERT = tiny("BERT")
HEAD, BASE = build(BERT, head=True), build(BERT)
SCORERS_USED = [
    "random",
    "truncate",
    "uniform",
    "lexicon",
    "cls_attention",
    "received_attention",
    "norm",
    "similarity",
    "entropy",
    "accumulated_attention",
]
AT_INPUT = ["random", "truncate", "uniform", "lexicon"]


@st.composite
def policies(draw: st.DrawFn) -> PruningPolicy:
    """Any policy of the grammar that can work on the tiny BERT."""
    depths = sorted(draw(st.sets(st.integers(-1, 2 * N_LAYERS - 1), max_size=3)))
    keeps = sorted(draw(st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3)), reverse=True)
    stages = []
    for depth, keep in zip(depths, keeps):
        layer = "input" if depth < 0 else depth // 2
        after = depth >= 0 and depth % 2 == 1
        early = depth in (-1, 0)
        scorer = draw(st.sampled_from(AT_INPUT if early else SCORERS_USED))
        reducer = "drop" if depth < 0 else draw(st.sampled_from(REDUCERS.names()))
        params = {"table": tables()[1]} if takes_table(scorer) else {}
        chosen = draw(st.sampled_from(["keep", "keep", "threshold", "mass"]))
        amount = {"keep": keep, "threshold": 2 * keep, "mass": keep}[chosen]
        stages.append(
            Stage(
                layer,
                scorer,
                reduce=reducer,
                params=params,
                where="after_attention" if after else "before",
                multiple=draw(st.sampled_from([1, 1, 4])),
                **{chosen: amount},
            )
        )
    protect = Protect(prefix=draw(st.integers(0, 3)), special_tokens=draw(st.booleans()))
    return PruningPolicy(stages=tuple(stages), protect=protect)


@settings(max_examples=40, deadline=None)
@given(policy=policies(), lengths=st.lists(st.integers(3, 22), min_size=1, max_size=3), head=st.booleans())
def test_any_policy_on_any_batch(policy: PruningPolicy, lengths: list[int], head: bool) -> None:
    model, batch = (HEAD if head else BASE), inputs(BERT, lengths)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together, trace = pruned(model, BERT, policy, batch)
        assert bool(torch.isfinite(together).all())
        assert head or together.shape == (len(lengths), max(lengths), 32)
        for step in trace.stages:
            for before, kept, count in zip(step.before, step.kept, step.tokens):
                assert set(kept) <= set(before)
                assert len(kept) <= count <= len(before) + 1
                assert count >= 1, "a fused token may be all that is left"
        if all(stage.keep is not None for stage in policy.stages):
            for row in range(len(lengths)):
                alone, _ = pruned(model, BERT, policy, one_row(BERT, batch, row))
                part = together[row] if head else together[row, : lengths[row]]
                torch.testing.assert_close(part, alone[0], atol=2e-5, rtol=1e-4)


@given(
    score=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    keep=st.floats(0.01, 1.0),
    multiple=st.integers(1, 8),
    held=st.integers(0, 5),
)
def test_selection(score: list[int], keep: float, multiple: int, held: int) -> None:
    n = len(score)
    held = min(held, n)
    protected = (torch.arange(n) < held).unsqueeze(0)
    stage = Stage(1, "random", keep=keep, multiple=multiple)
    (count,) = keep_counts(stage, [n], [n], [held])
    assert count == min(n, max(held, stage.target(n)))
    values = torch.tensor([score], dtype=torch.float32)
    index, valid = first(ranking(values, protected, None), [count])
    assert valid is None
    want = sorted([*range(held), *sorted(range(held, n), key=lambda i: (-score[i], i))][:count])
    assert index[0].tolist() == want


@given(score=st.lists(st.floats(0, 9, width=32), min_size=1, max_size=30), share=st.floats(0.01, 1.0))
def test_mass_is_the_smallest_set(score: list[float], share: float) -> None:
    values = torch.tensor([score])
    nothing = torch.zeros_like(values, dtype=torch.bool)
    (count,) = scored_counts(Stage(1, "norm", mass=share), values, nothing, None, [len(score)])
    ranked = sorted(score, reverse=True)
    total = sum(ranked)
    assert sum(ranked[:count]) >= share * total - 1e-4 * max(total, 1e-9)
    assert count == 0 or sum(ranked[: count - 1]) < share * total + 1e-4 * max(total, 1e-9)


@given(n=st.integers(4, 24), final=st.floats(0.05, 1.0), r=st.floats(0.5, 30), tilt=st.floats(-1, 1))
def test_schedules_never_increase(n: int, final: float, r: float, tilt: float) -> None:
    for stages in (
        linear(n, final, "norm"),
        constant_removal(n, 197, r, "norm", inflection=tilt),
        geometric([1, 2, 3], final, "norm"),
    ):
        keeps = [stage.keep for stage in stages]
        assert keeps == sorted(keeps, reverse=True)
        assert all(0 < keep <= 1 for keep in keeps)
        PruningPolicy(stages=stages)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.text(), JSON, max_size=3) | st.dictionaries(st.integers(), JSON, max_size=3))
def test_parameters_are_what_json_makes_of_them(params: dict[str, object]) -> None:
    kept = Stage("input", "random", keep=0.5, reduce_params=params).reduce_params
    plain = json.loads(json.dumps(params, sort_keys=True))
    assert list(kept.items()) == list(plain.items())
    assert [type(value) for value in kept.values()] == [type(value) for value in plain.values()]
