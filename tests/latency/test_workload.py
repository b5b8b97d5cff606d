import json

import numpy as np
import pytest

from autoprune.errors import ConfigError, DataError
from autoprune.latency.workload import Workload, resolve_lengths, stratified_lengths


def test_stratified_lengths_are_quantiles_that_occur() -> None:
    lengths = np.array([10] * 50 + [100] * 45 + [400] * 5)
    drawn = stratified_lengths(np.random.default_rng(0).permutation(lengths), 20)
    assert drawn == tuple([10] * 10 + [100] * 9 + [400])


def test_stratified_lengths_need_examples() -> None:
    with pytest.raises(DataError):
        stratified_lengths([], 4)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (64, ((64,) * 3, "fixed:64")),
        ("64", ((64,) * 3, "fixed:64")),
        ("16,32", ((16, 32), "list")),
        ([16, 32], ((16, 32), "list")),
        ("data", ((10, 20, 30), "data")),
    ],
)
def test_resolve_lengths(wanted: object, expected: object) -> None:
    assert resolve_lengths(wanted, [10, 20, 30], n=3, limit=64) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", ["", "x", "0", "-5", "16,", 0, [], 65, "10,500"])
def test_bad_lengths_are_refused(wanted: object) -> None:
    with pytest.raises(ConfigError):
        resolve_lengths(wanted, [10], n=3, limit=64)  # type: ignore[arg-type]


def test_data_longer_than_the_model_is_clipped() -> None:
    assert resolve_lengths("data", [900, 900], n=2, limit=512)[0] == (512, 512)


def test_digest_covers_every_field_and_survives_json() -> None:
    workload = Workload.fixed(256, 4)
    again = Workload.from_dict(json.loads(json.dumps(workload.to_dict())))
    assert again == workload
    assert again.digest() == workload.digest()
    others = [
        Workload.fixed(256, 5),
        Workload.fixed(256, 4, threads=2),
        Workload.fixed(256, 4, batch_size=2),
        Workload.fixed(256, 4, dtype="bfloat16"),
        Workload.fixed(256, 4, attention="eager"),
        Workload.fixed(256, 4, runtime="compile"),
        Workload.fixed(256, 4, device="cuda:0"),
    ]
    assert len({w.digest() for w in (workload, *others)}) == len(others) + 1


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "fp4"},
        {"device": "tpu"},
        {"runtime": "tvm"},
        {"attention": "magic"},
        {"batch_size": 0},
        {"threads": 0},
        {"dtype": "int8", "device": "cuda"},
    ],
)
def test_bad_workloads_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Workload.fixed(16, 2, **options)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="colour"):
        Workload.from_dict({"lengths": [1], "colour": "red"})


def test_describe() -> None:
    assert Workload.fixed(256, 4).describe() == "batch 1, 256 tokens, float32, cpu, 1 thread, sdpa attention"
    mixed = Workload((8, 64), "data", threads=2, runtime="compile").describe()
    assert "8-64 tokens from the data" in mixed
    assert "2 threads" in mixed
    assert "compile" in mixed
