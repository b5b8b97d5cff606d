"""Options that only make sense together: where policies are scored, and on what."""

import pytest

from autoprune.config import SearchConfig
from autoprune.errors import ConfigError


@pytest.mark.parametrize("share", [-1, -0.25, 1.5, float("nan"), float("inf")])
def test_a_senseless_share_of_a_gpu_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="--gpus-per-worker: must be 0, a share of one GPU"):
        SearchConfig.of(gpus_per_worker=share)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpus_per_worker": 0.5, "workers": 1}, "--workers 1 scores in this process"),
        ({"gpus_per_worker": 1, "device": "mps"}, "is for CUDA"),
        ({"gpus_per_worker": 1, "dtype": "int8"}, "int8 models run on CPUs alone"),
        ({"gpus_per_worker": 0, "device": "cuda:1"}, "cannot score on cuda:1"),
    ],
)
def test_gpus_that_nobody_could_use_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SearchConfig.of(**options)


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ({}, 0.0),
        ({"device": "cuda"}, 1.0),
        ({"device": "cuda:1", "gpus_per_worker": 0.25}, 0.25),
        ({"device": "cuda", "workers": 1}, 0.0),
        ({"device": "cuda", "workers": 1, "gpus_per_worker": 0}, 0.0),
        ({"device": "cpu", "gpus_per_worker": 2}, 2.0),
        ({"device": "mps"}, 0.0),
    ],
)
def test_what_a_worker_reserves(options: dict, gpus: float) -> None:
    assert SearchConfig.of(**options).worker_gpus == gpus


def test_where_it_runs_does_not_define_a_search() -> None:
    assert SearchConfig.of(gpus_per_worker=0.5, workers=3).defining() == SearchConfig.of().defining()
