from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune.errors import MeasurementError
from autoprune.latency.consumption import NOT_AVAILABLE, energy_per_input, flops, model_bytes, throughput
from autoprune.latency.fresh import high_water_bytes, reset_high_water, run_fresh
from autoprune.latency.memory import forward_peak_bytes
from autoprune.latency.runners import make_runner, prepare_model
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.attach import attach
from autoprune.pruning.tables import TableSet
from autoprune.pruning.twin import twin


def test_flops_are_equal_under_sdpa_and_eager(make_bert: Any, make_batch: Any) -> None:
    counts = {name: flops(make_bert(attention=name), make_batch(40, rows=2)) for name in ("sdpa", "eager")}
    assert counts["sdpa"] == counts["eager"]


def test_flops_are_what_the_formula_says(make_bert: Any, make_batch: Any) -> None:
    layers, hidden, n, classes = 3, 32, 40, 2
    per_layer = 2 * n * (4 * hidden**2 + 2 * hidden * 2 * hidden) + 2 * 2 * n * n * hidden
    head = 2 * (hidden * hidden + hidden * classes)
    assert flops(make_bert(), make_batch(n)) == layers * per_layer + head


def test_flops_of_a_policy_follow_the_tokens_it_leaves(bert: Any, make_batch: Any) -> None:
    batch, pruned = make_batch(40), twin(bert)
    dense, half = flops(bert, batch), flops(bert, make_batch(20))
    with attach(pruned, PruningPolicy((Stage("input", "truncate", keep=0.5),))):
        assert flops(pruned, batch) == half
    assert flops(bert, batch) == dense


def test_model_bytes_counts_shared_weights_once(bert: Any) -> None:
    expected = sum(p.numel() * 4 for p in bert.parameters()) + sum(b.nbytes for b in bert.buffers())
    assert model_bytes(bert) == expected
    both = torch.nn.ModuleList([bert, twin(bert)])
    assert model_bytes(both) == expected  # type: ignore[arg-type]


def test_int8_weights_are_a_quarter(bert: Any) -> None:
    small = prepare_model(bert, Workload.fixed(8, 1, dtype="int8"))
    linear = sum(m.weight.numel() for m in bert.modules() if isinstance(m, torch.nn.Linear))
    saved = model_bytes(bert) - model_bytes(small)
    assert saved >= 3 * linear


def test_throughput_counts_inputs_not_batches() -> None:
    clock = iter(range(0, 10**12, 50_000_000))
    found = throughput(lambda batch: None, {1: "a", 8: "b"}, seconds=1.0, clock=lambda: next(clock))
    assert found[8] == pytest.approx(8 * found[1], rel=0.1)


def rapl(folder: Path, name: str, microjoules: int) -> Path:
    file = folder / name / "energy_uj"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(str(microjoules))
    return file


def test_energy_is_summed_over_packages_not_their_parts(tmp_path: Path) -> None:
    files = [rapl(tmp_path, "intel-rapl:0", 1000), rapl(tmp_path, "intel-rapl:1", 5)]
    part = rapl(tmp_path, "intel-rapl:0:0", 0)
    now = {"ns": 0}

    def run(batch: object) -> None:
        now["ns"] += 100_000_000
        for file in (*files, part):
            file.write_text(str(int(file.read_text()) + 3_000_000))

    found = energy_per_input(run, None, rows=2, powercap=tmp_path, seconds=1.0, clock=lambda: now["ns"])
    assert found.source == "RAPL"
    assert found.joules == pytest.approx(2 * 3.0 / 2)


def test_energy_is_never_guessed(tmp_path: Path) -> None:
    none = energy_per_input(lambda b: None, None, 1, powercap=tmp_path)
    assert none.joules is None
    assert none.describe() == NOT_AVAILABLE
    assert "RAPL" in none.reason
    rapl(tmp_path, "intel-rapl:0", 7)
    still = energy_per_input(lambda b: None, None, 1, powercap=tmp_path, seconds=0.001)
    assert still.joules is None
    assert "stood still" in still.reason
    assert energy_per_input(lambda b: None, None, 1, device="mps").joules is None


def test_fresh_process_answers_in_json() -> None:
    found = run_fresh("os.path:join", {"a": "x"})
    assert found.value == "x"
    assert found.peak_bytes is None or found.peak_bytes > 1_000_000


@pytest.mark.parametrize("function", ["os:nothing_here", "no_such_module_at_all:x"])
def test_failure_of_a_fresh_process_is_told(function: str) -> None:
    with pytest.raises(MeasurementError, match="fresh process failed"):
        run_fresh(function, {})
    with pytest.raises(MeasurementError, match="more than 0 seconds"):
        run_fresh("time:sleep", {}, timeout_s=0.01)


def test_high_water_mark_sees_an_allocation_and_can_start_anew() -> None:
    if not reset_high_water():
        pytest.skip("this system cannot reset the mark")
    before = high_water_bytes()
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    during = high_water_bytes()
    del block
    reset_high_water()
    after = high_water_bytes()
    assert before is not None
    assert during is not None
    assert after is not None
    assert during - before > 50 * 2**20
    assert after < during - 30 * 2**20


def test_forward_peak_of_a_fresh_process(bert: Any) -> None:
    policy = PruningPolicy((Stage("input", "truncate", keep=0.5),))
    found = forward_peak_bytes(bert, Workload.fixed(16, 1), 16, policy)
    assert found is None or found > 50 * 2**20
    tables = TableSet()
    key = tables.add({"importance": torch.rand(bert.config.vocab_size)})
    learned = PruningPolicy((Stage("input", "lexicon", keep=0.5, params={"table": key}),))
    again = forward_peak_bytes(bert, Workload.fixed(16, 1), 16, learned, tables)
    assert (again is None) == (found is None)


def test_peak_of_an_unknown_class_is_not_guessed(bert: Any) -> None:
    class Mine(type(bert)):  # type: ignore[misc]
        pass

    bert.__class__ = Mine
    assert forward_peak_bytes(bert, Workload.fixed(16, 1), 16) is None


def test_runner_of_a_gpu(bert: Any, make_batch: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    from autoprune.errors import ConfigError

    with pytest.raises(ConfigError, match="CUDA"):
        prepare_model(bert, Workload.fixed(8, 1, device="cuda"))
    assert make_runner(bert, Workload.fixed(8, 1))(make_batch(8)).logits.shape == (1, 2)


def test_a_policy_with_a_backward_cannot_be_counted(bert: Any, make_batch: Any) -> None:
    with attach(bert, PruningPolicy((Stage(1, "saliency", keep=0.5),))):
        assert flops(bert, make_batch(32)) is None
