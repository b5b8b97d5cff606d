import json

import numpy as np
import pytest

from autoprune.errors import MeasurementError
from autoprune.latency.cost_table import CostTable, Line, method_of
from autoprune.policy import PruningPolicy, Stage

TOKENS = (2, 64, 128, 256)


def layer(n: float) -> float:
    return 1.0 + n / 32


TABLE = CostTable(
    tokens=TOKENS,
    layers_ms=tuple(tuple(layer(n) for n in TOKENS) for _ in range(4)),
    around_ms=tuple(2.0 + n / 256 for n in TOKENS),
    first_token=((2, 0.5), (256, 2.5)),
    scorers={"truncate@input": Line(0.1, 0.0), "cls_attention@layer": Line(0.2, 0.01)},
    reducers={"fuse": Line(0.3)},
    attention_share=0.25,
)


def policy(*stages: Stage, last: str = "full") -> PruningPolicy:
    return PruningPolicy(stages, last_layer=last)  # type: ignore[arg-type]


def test_dense_is_the_sum_of_its_parts() -> None:
    assert TABLE.dense(256) == pytest.approx(3.0 + 4 * 9.0)
    assert TABLE.predict(policy(), 256, 2) == TABLE.dense(256)
    assert TABLE.predict_ratio(policy(), 256, 2) == 1.0


def test_values_between_below_and_above_the_points() -> None:
    assert TABLE.layer(0, 100) == pytest.approx(layer(100))
    assert TABLE.layer(0, 1) == layer(2)
    assert TABLE.layer(0, 512) == pytest.approx(layer(512))


def test_between_points_it_says_what_numpy_says_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    uneven = CostTable(TOKENS, (tuple(rng.random(4).tolist()),), tuple(rng.random(4).tolist()))
    for at in [*TOKENS, *rng.uniform(0, 256, 200).tolist(), *range(257)]:
        assert uneven.layer(0, at) == np.interp(at, TOKENS, uneven.layers_ms[0])


def test_input_stage_shortens_embedding_and_all_layers() -> None:
    found = TABLE.predict(policy(Stage("input", "truncate", keep=0.5)), 256, 2)
    assert found == pytest.approx(2.5 + 4 * layer(128) + 0.1)


def test_stage_before_a_layer_shortens_from_there_and_pays_for_scoring() -> None:
    found = TABLE.predict(policy(Stage(2, "cls_attention", keep=0.25, reduce="fuse")), 256, 2)
    assert found == pytest.approx(3.0 + 2 * layer(256) + 2 * layer(64) + (0.2 + 2.56) + 0.3)


def test_stage_after_attention_saves_the_rest_of_its_layer() -> None:
    found = TABLE.ideal(policy(Stage(1, "cls_attention", keep=0.5, where="after_attention")), 256, 2)
    inside = 0.25 * layer(256) + 0.75 * layer(128)
    assert found == pytest.approx(3.0 + layer(256) + inside + 2 * layer(128))


def test_stages_are_paid_at_the_tokens_they_see() -> None:
    both = policy(Stage("input", "truncate", keep=0.5), Stage(3, "cls_attention", keep=0.25))
    found = TABLE.predict(both, 256, 2)
    assert found == pytest.approx(2.5 + 3 * layer(128) + layer(64) + 0.1 + (0.2 + 1.28))


def test_first_token_has_its_own_points() -> None:
    assert TABLE.predict(policy(last="first_token"), 256, 2) == pytest.approx(3.0 + 3 * 9.0 + 2.5)
    pruned = policy(Stage("input", "truncate", keep=0.5), last="first_token")
    assert TABLE.ideal(pruned, 256, 2) == pytest.approx(2.5 + 3 * layer(128) + 0.5 + 2 * 126 / 254)


def test_protected_tokens_set_the_least() -> None:
    tiny = policy(Stage("input", "truncate", keep=0.001))
    assert TABLE.ideal(tiny, 256, 64) == pytest.approx(2.25 + 4 * layer(64))


def test_keep_all_costs_no_scoring() -> None:
    assert TABLE.predict(policy(Stage("input", "truncate", keep=1.0)), 256, 2) == TABLE.dense(256)


def test_unmeasured_scorer_is_charged_the_dearest() -> None:
    found = TABLE.predict(policy(Stage("input", "lexicon", keep=0.5)), 256, 2)
    assert found - TABLE.ideal(policy(Stage("input", "lexicon", keep=0.5)), 256, 2) == pytest.approx(0.2 + 2.56)


def test_parameters_have_a_cost_of_their_own_where_it_was_measured() -> None:
    known = TABLE.with_costs({"cls_attention(value_weighted=true)@layer": Line(5.0)}, {"merge(metric=keys)": Line(7.0)})

    def over(stage: Stage) -> float:
        return known.predict(policy(stage), 256, 2) - known.ideal(policy(stage), 256, 2)

    plain, weighted = {"value_weighted": False}, {"value_weighted": True}
    assert over(Stage(2, "cls_attention", keep=0.5, params=weighted)) == pytest.approx(5.0)
    assert over(Stage(2, "cls_attention", keep=0.5)) == pytest.approx(0.2 + 2.56)
    assert over(Stage(2, "cls_attention", keep=0.5, params=plain)) == pytest.approx(0.2 + 2.56)
    fused = Stage(2, "cls_attention", keep=0.5, reduce="merge", reduce_params={"metric": "keys"})
    assert over(fused) == pytest.approx(over(Stage(2, "cls_attention", keep=0.5, reduce="merge")) + 7.0)


def test_counts_of_threshold_stages_can_be_given() -> None:
    stage = policy(Stage("input", "truncate", threshold=1.0))
    assert TABLE.predict(stage, 256, 2) > TABLE.predict(stage, 256, 2, lambda policy, n, held: [n / 4])


def test_more_pruning_never_predicts_more() -> None:
    found = [TABLE.predict(policy(Stage("input", "truncate", keep=k / 50)), 256, 2) for k in range(1, 50)]
    assert found == sorted(found)


def test_statistic_over_the_lengths() -> None:
    assert TABLE.predict_statistic(policy(), (64, 128, 256), 2) == TABLE.dense(128)
    p95 = TABLE.predict_statistic(policy(), (64, 128, 256), 2, "p95")
    assert TABLE.dense(128) < p95 < TABLE.dense(256)


def test_recalibration_moves_a_method_and_leaves_the_others() -> None:
    cls = policy(Stage(2, "cls_attention", keep=0.5))
    cut = policy(Stage("input", "truncate", keep=0.5))
    pairs = [(cls, 256, 2, 1.2 * TABLE.predict(cls, 256, 2))] * 9
    better = TABLE.recalibrate(pairs)
    assert better.predict(cls, 256, 2) == pytest.approx(1.2**0.9 * TABLE.predict(cls, 256, 2))
    assert better.predict(cut, 256, 2) == TABLE.predict(cut, 256, 2)
    assert better.dense(256) == TABLE.dense(256)
    # Factors are of the plain table: doing it twice changes nothing.
    assert better.recalibrate(pairs).factors == better.factors
    mixture = policy(Stage("input", "truncate", keep=0.5), Stage(2, "cls_attention", keep=0.4))
    assert better.predict(mixture, 256, 2) > TABLE.predict(mixture, 256, 2)


def test_one_pair_bends_a_factor_half_way() -> None:
    cut = policy(Stage("input", "truncate", keep=0.5))
    better = TABLE.recalibrate([(cut, 256, 2, 4 * TABLE.predict(cut, 256, 2))])
    assert better.factors == {"truncate": pytest.approx(2.0)}


def test_method_names() -> None:
    assert method_of(policy()) == "dense"
    assert method_of(policy(Stage(1, "b", threshold=0.5), Stage(2, "a", keep=0.5))) == "a+b+threshold"
    assert method_of(policy(Stage(1, "b", keep=0.5), Stage(2, "a", keep=0.5), last="first_token")) == "a+b+first_token"


def test_json_round_trip() -> None:
    table = TABLE.recalibrate([(policy(Stage("input", "truncate", keep=0.5)), 256, 2, 30.0)])
    assert CostTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table
    with pytest.raises(MeasurementError, match="colour"):
        CostTable.from_dict({**TABLE.to_dict(), "colour": 1})


def test_broken_tables_are_refused() -> None:
    with pytest.raises(MeasurementError):
        CostTable((), (), ())
    with pytest.raises(MeasurementError):
        CostTable((4, 2), ((1.0, 2.0),), (1.0, 2.0))
    with pytest.raises(MeasurementError):
        CostTable((2, 4), ((1.0,),), (1.0, 2.0))


def test_line_through_points() -> None:
    assert Line.through([(0, 1.0), (100, 2.0)]).at(50) == pytest.approx(1.5)
    assert Line.through([(10, 3.0), (100, 1.0)]) == Line(2.0)  # a falling cost is noise
    assert Line.through([(64, 0.4)]) == Line(0.4)
    assert Line(-5.0, 0.01).at(100) == 0.0


def test_a_scorer_that_is_not_asked_is_not_charged() -> None:
    costs = {"truncate@layer": Line(0.5), "saliency@layer": Line(60.0), "entropy@layer": Line(2.0)}
    table = CostTable(tokens=(8, 64), layers_ms=((1.0, 8.0),) * 4, around_ms=(0.5, 1.0), scorers=costs)

    def cost(*stages: Stage) -> float:
        return table.predict(PruningPolicy(stages), 64, 2) - table.ideal(PruningPolicy(stages), 64, 2)

    assert cost(Stage(1, "entropy", keep=0.5)) == pytest.approx(2.0)
    assert cost(Stage(1, "entropy", keep=0.5, reduce="adjacent_merge")) == pytest.approx(0.5)
    assert cost(Stage(1, "entropy", mass=0.5, reduce="adjacent_merge")) == pytest.approx(2.0)
    # One backward serves every stage.
    assert cost(Stage(1, "saliency", keep=0.5), Stage(2, "saliency", keep=0.3)) == pytest.approx(60.5)
