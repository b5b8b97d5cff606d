"""A real Tuner with ASHA on autoprune's space: the example of docs/cluster.md, on a small model."""

import re
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autoprune.store.repository import Store

pytestmark = pytest.mark.ray
DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"


def example() -> str:
    """Return the Python block of the docs that uses Ray Tune."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    (found,) = [block for block in blocks if "tune_session" in block]
    return found


@pytest.mark.slow
def test_the_documented_tuner_fills_the_study_and_finishes_it(options, tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("AUTOPRUNE_DB", str(options["db"]))
    code = example()
    for name in ("model", "dataset"):
        code, changed = re.subn(rf'{name}="[^"]*"', f'{name}="{options[name]}"', code)
        assert changed == 1, f"the example names no {name}"
    code, changed = re.subn(r'budget="[^"]*"', 'budget="80%", threads=1', code)
    assert changed == 1
    monkeypatch.chdir(tmp_path)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    scope = {}
    try:
        exec(compile(code, "docs/cluster.md", "exec"), scope)
    finally:
        ray.shutdown()
    results, result = scope["results"], scope["result"]
    assert not results.errors
    assert result.status in ("met", "not_met", "too_noisy")
    check_study(options["db"], result, results)


def check_study(db, result, results):
    study = optuna.load_study(study_name=result.data["study"], storage=f"sqlite:///{db}")
    own = [t for t in study.get_trials() if t.number > 0 and "policy_digest" in t.user_attrs]
    states = Counter(t.state for t in own)
    assert len(own) == len(results)
    assert set(states) <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert states[TrialState.COMPLETE] >= 1
    scored = {r.metrics["describe"] if "describe" in r.metrics else r.config["describe"]: r.metrics for r in results}
    with Store.open(db) as store:
        rows = [row for row in store.evaluations(result.data["study"]) if row.trial]
        assert max(Counter((row.digest, row.n_examples) for row in rows).values()) == 1
        by_kl = {row.kl for row in rows}
        # What Tune showed is what the database holds, to the bit.
        assert {metrics["kl"] for metrics in scored.values()} <= by_kl
        timed = {m.digest for m in store.measurements(result.data["study"]) if m.kind == "search"}
    complete = {t.user_attrs["policy_digest"] for t in own if t.state is TrialState.COMPLETE}
    assert timed == complete == {row.digest for row in rows if row.complete}
