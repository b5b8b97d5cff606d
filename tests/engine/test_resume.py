"""A driver that is killed loses nothing, and the same command finishes its study."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from autoprune.budget import Budget
from autoprune.config import SearchConfig
from autoprune.engine import assembly, driver, exploration, queries, run
from autoprune.engine.decision import excess_ms
from autoprune.engine.proposals import Start, describe, note_quality, tell_values
from autoprune.engine.record import Recorder
from autoprune.engine.resume import pick_study
from autoprune.engine.resume import study_record as study_record_of
from autoprune.engine.scoreboard import Scoreboard
from autoprune.engine.seeds import seed_params
from autoprune.engine.session import stored_workload
from autoprune.engine.starting import open_study
from autoprune.engine.timing import timing_figures
from autoprune.errors import ConfigError, StoreError
from autoprune.latency.exclusive import timing_lock
from autoprune.latency.hardware import fingerprint
from autoprune.latency.timing import PairedTiming
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy, Stage
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space
from autoprune.store.optuna_study import keep, open_optuna_study
from autoprune.store.repository import Store
from autoprune.tasks.base import TaskSpec
from autoprune.testing.studies import study_record


def evaluated(db):
    """Return how often each policy was scored on all examples."""
    try:
        with Store.open(db) as store:
            names = [summary.name for summary in store.list_studies()]
            return names, Counter(e.digest for name in names for e in store.evaluations(name) if e.complete)
    except StoreError:
        return [], Counter()


def wait_for(condition, process, seconds=180):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        if process.poll() is not None:
            out, err = process.communicate()
            pytest.fail(f"the search ended too early: {out}{err}"[-2000:])
        time.sleep(0.05)
    process.kill()
    pytest.fail("the search came to nothing")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_search_is_finished_by_the_same_command(run_search, options, blow):
    first = run_search(trials=6)
    wait_for(lambda: sum(evaluated(options["db"])[1].values()) >= 2, first)  # dense and a policy
    first.send_signal(blow)
    out, _ = first.communicate(timeout=120)
    before = evaluated(options["db"])[1]
    if blow == signal.SIGINT:
        assert json.loads(out)["status"] == "interrupted"
    second = run_search(trials=6)
    out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    document = json.loads(out)
    names, after = evaluated(options["db"])
    assert names == [document["study"]]
    assert all(after[digest] >= before[digest] for digest in before)
    study = optuna.load_study(study_name=document["study"], storage=f"sqlite:///{options['db']}")
    told = Counter(t.user_attrs["policy_digest"] for t in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))
    assert max(told.values()) == 1
    assert not study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert sum(document["trials"].values()) == 6
    with Store.open(options["db"]) as store:
        timed = Counter(m.digest for m in store.measurements(document["study"]) if m.kind == "search")
        worked = Counter(e.digest for e in store.evaluations(document["study"]) if e.complete and e.seconds)
    assert max(timed.values()) == 1
    assert max(worked.values()) == 1, "a finished policy was scored again"


WAITING = """
import json, sys
from pathlib import Path
from autoprune.config import SearchConfig
from autoprune.engine.driver import search
from autoprune.engine.events import Observer
from autoprune.latency import exclusive

class Loud(Observer):
    def message(self, text):
        print(text, file=sys.stderr, flush=True)

exclusive.machine_folder = lambda: Path(sys.argv[2])  # not the machine's own lock: the test holds it for long
print(json.dumps(search(SearchConfig.of(**json.loads(sys.argv[1])), Loud()).to_json()))
"""


def test_ctrl_c_ends_the_wait_for_another_process_that_times(run_search, options, tmp_path):
    wanted, folder = {**options, "trials": 6}, tmp_path / "lock"
    with (tmp_path / "talk").open("w+") as talk:
        command = [sys.executable, "-c", WAITING, json.dumps(wanted), str(folder)]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=talk, text=True)
        try:
            wait_for(lambda: sum(evaluated(options["db"])[1].values()) >= 2, first)  # dense and a policy
            with timing_lock(120, folder=folder):
                wait_for(lambda: "Waiting: another" in (tmp_path / "talk").read_text(), first)
                first.send_signal(signal.SIGINT)
                pressed = time.monotonic()
                out, _ = first.communicate(timeout=120)
                assert time.monotonic() - pressed < 30
        finally:
            first.kill()
    document = json.loads(out)
    assert document["status"] == "interrupted"
    assert "stopping" in (tmp_path / "talk").read_text()
    before = evaluated(options["db"])[1]
    second = run_search(trials=6)
    out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert sum(json.loads(out)["trials"].values()) == 6
    with Store.open(options["db"]) as store:
        worked = Counter(e.digest for e in store.evaluations(document["study"]) if e.complete and e.seconds)
        timed = Counter(m.digest for m in store.measurements(document["study"]) if m.kind == "search")
    assert max(worked.values()) == 1, "a finished policy was scored again"
    assert max(timed.values()) == 1
    study = optuna.load_study(study_name=document["study"], storage=f"sqlite:///{options['db']}")
    beaten = {t.user_attrs.get("policy_digest") for t in study.get_trials(states=(optuna.trial.TrialState.PRUNED,))}
    left = set(before) - set(timed) - beaten - {PruningPolicy().digest()}
    assert not left, "some were neither timed nor beaten on all examples"


def asked_for(name, **options):
    """Return what ``pick_study`` reads of a session."""
    return SimpleNamespace(
        study_name=name, search_key="k", early_key="early", config=SearchConfig.of(study=name, **options)
    )


@pytest.mark.parametrize("complete", [False, True])
def test_somebodys_own_optuna_study_is_left_alone(tmp_path, complete):
    with Store.open(tmp_path / "shared.db") as store:
        theirs = optuna.create_study(study_name="mine", storage=store.storage, directions=["minimize", "maximize"])
        trial = theirs.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        if complete:
            theirs.tell(trial, [1.0, 1.0])
        with pytest.raises(ConfigError, match="autoprune did not make") as caught:
            pick_study(store, asked_for("mine"))
        assert "--study" in caught.value.hint
        assert pick_study(store, asked_for("other")) == "other"
        store.create_study(replace(study_record("other"), search_key="k"))
        optuna.create_study(study_name="other-2", storage=store.storage)
        assert pick_study(store, asked_for("other")) == "other"
        assert pick_study(store, asked_for("other", new=True)) == "other-3"
        assert len(theirs.trials) == 1


def test_a_study_that_an_early_version_made_goes_on(tmp_path):
    with Store.open(tmp_path / "early.db") as store:
        for name in ("task-early", "task-early-2"):
            store.create_study(replace(study_record(name), search_key="early"))
        session = asked_for(None)
        session.study_name = "task-k"
        assert pick_study(store, session) == "task-early"
        assert pick_study(store, asked_for("task-early")) == "task-early"


def test_a_study_is_stored_under_the_digests_that_its_document_names(tmp_path):
    task = SimpleNamespace(spec=TaskSpec(), name="t", fingerprint="f", texts=())
    options = SearchConfig.of(db="postgresql://me:geheim@host/x")
    workload, hardware = Workload.fixed(16), fingerprint()
    session = SimpleNamespace(config=options, budget=Budget.parse("20ms"), task=task, workload=workload,
                              hardware=hardware, search_key="k", model_record=lambda: {"digest": "m"})  # fmt: skip
    record = study_record_of(session, "s", SimpleNamespace(to_dict=dict), {"p50": 40.0})
    assert "geheim" not in str(record)
    with Store.open(tmp_path / "s.db") as store:
        store.create_study(record)
        [summary] = store.list_studies(workload=workload.digest(), hardware=hardware.digest())
        assert stored_workload(store.require_study("s").workload) == workload
    assert summary.digests["workload"] == workload.digest()


def killed(*_args):
    raise KeyboardInterrupt


def left_measured(store, told):
    """Write a study whose driver died with trial 1 measured, and told or not; return its front and trial 1."""
    logits = np.random.default_rng(0).normal(size=(2, 128, 2)).astype(np.float32)
    store.create_study(study_record("s", 20.0))
    study, recorder = open_optuna_study(store, "s"), Recorder(store, "s")
    board = Scoreboard(SimpleNamespace(labels=None, metric=SimpleNamespace(score=agreement)), logits[0])
    trials = []
    for number, policy in enumerate([PruningPolicy(), PruningPolicy(stages=(Stage("input", "random", keep=0.3),))]):
        timing = PairedTiming(np.full((8, 5), 48_000_000), np.full((8, 5), 48_000_000 // (1 + 2 * number)))
        trials.append(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}))
        recorder.policy(policy)
        describe(trials[-1], policy)
        keep(trials[-1])
        board.add(policy.digest(), 0, logits[number])
        quality = board.quality(policy.digest())
        recorder.evaluation(number, policy.digest(), quality, complete=True, logits=logits[number], seconds=1.0)
        found = timing_figures(timing, {"p50": 48.0, "p95": 48.0, "mean": 48.0}, "p50")
        latency_ms = found["latency_ms"]["p50"]
        recorder.measurement(("probe", "search")[number], number, policy.digest(), timing, "p50", latency_ms)
        if number == 0 or told:
            note_quality(trials[-1], board.rungs(policy.digest()))
            tell_values(study, trials[-1], latency_ms, quality.score, excess_ms(found, 20 / 48, 48.0))
    session = SimpleNamespace(config=SearchConfig.of(sampler="random"), budget=Budget.parse("20ms"), task=board._task)
    return open_study(store, "s", session)


def agreement(own, other):
    return float(np.mean(own == other))


def test_what_was_measured_and_not_told_is_told_by_the_next_sitting(tmp_path):
    with Store.open(tmp_path / "calm.db") as calm, Store.open(tmp_path / "dead.db") as dead:
        wanted, found = left_measured(calm, told=True), left_measured(dead, told=False)
        assert [trial.state for trial in found.get_trials()] == [TrialState.COMPLETE] * 2
        assert [trial.number for trial in found.best_trials] == [point.trial for point in dead.front("s", 20.0)] == [1]
        for one, other in zip(wanted.get_trials(), found.get_trials(), strict=True):
            assert (one.values, one.constraints) == (other.values, other.constraints)
            assert one.system_attrs["constraints"] == other.system_attrs["constraints"]
        assert wanted.get_trials()[1].user_attrs["kl"] == found.get_trials()[1].user_attrs["kl"]


def test_a_driver_killed_before_it_tells_leaves_no_ghost(options, monkeypatch):
    config = SearchConfig.of(**{**options, "budget": "95%"})
    with monkeypatch.context() as patch:
        patch.setattr(run, "tell_values", killed)
        with pytest.raises(KeyboardInterrupt):
            driver.search(config)
    found = driver.search(config)
    study = optuna.load_study(study_name=found.data["study"], storage=f"sqlite:///{options['db']}")
    with Store.open(options["db"]) as store:
        timed = Counter(m.digest for m in store.measurements(found.data["study"]) if m.kind == "search")
        stored = store.load_front(found.data["study"], "front")
    assert max(timed.values()) == 1
    assert {t.number: tuple(t.values) for t in study.best_trials} == {
        row.trial: (row.latency_ms, row.score) for row in stored.rows
    }
    assert sum(found.data["trials"].values()) == options["trials"]


def test_a_policy_that_waited_to_be_timed_comes_before_new_ones(options, monkeypatch):
    config = SearchConfig.of(**{**options, "trials": 1})
    with monkeypatch.context() as patch:
        patch.setattr(run.SearchRun, "_timed", killed)
        with pytest.raises(KeyboardInterrupt):
            driver.search(config)
    before = set(evaluated(options["db"])[1]) - {PruningPolicy().digest()}
    found = driver.search(config)
    _, after = evaluated(options["db"])
    with Store.open(options["db"]) as store:
        timed = {m.digest for m in store.measurements(found.data["study"]) if m.kind == "search"}
    assert timed == before
    assert set(after.values()) == {1}
    study = optuna.load_study(study_name=found.data["study"], storage=f"sqlite:///{options['db']}")
    assert not study.get_trials(states=(TrialState.FAIL,)), "the trial itself goes on"


def test_first_proposals_that_a_killed_driver_had_not_enqueued_are_not_lost(options, monkeypatch):
    config = SearchConfig.of(**{**options, "trials": 1, "sampler": "random"})
    enqueue, seen = Start.enqueue, []

    def twice(start, study):
        seen.append(start)
        return killed() if len(seen) > 2 else enqueue(start, study)

    with monkeypatch.context() as patch:
        patch.setattr(Start, "enqueue", twice)
        with pytest.raises(KeyboardInterrupt):
            driver.search(config)
    study = optuna.load_study(study_name=driver.search(config).data["study"], storage=f"sqlite:///{options['db']}")
    queued = [trial.system_attrs.get("fixed_params") for trial in study.get_trials() if trial.number]
    found = [params for params in queued if params]
    wanted = seed_params(Space(load_space_file("quick"), 4))
    assert len(wanted) > 2
    assert found == wanted


def test_an_interrupted_extension_keeps_what_was_promised(options, monkeypatch):
    found = driver.search(SearchConfig.of(**options)).data
    promised = {"trial": 1, "digest": "as promised"}
    with Store.open(options["db"]) as store:
        store.set_result(found["study"], "met", {**found, "status": "met", "best": promised})
    assemble = exploration.assemble

    def interrupted(*arguments):
        arguments[-1].requested = True
        return assemble(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(exploration, "assemble", interrupted)
        again = driver.search(SearchConfig.of(**{**options, "trials": options["trials"] + 2}))
    assert (again.status, again.data["best"]) == ("interrupted", promised)


def test_a_driver_killed_while_it_makes_the_study_leaves_none(options, monkeypatch):
    monkeypatch.setattr(assembly, "note_dense", killed)
    with pytest.raises(KeyboardInterrupt):
        driver.search(SearchConfig.of(**options))
    with Store.open(options["db"]) as store:
        assert store.list_studies() == []


def test_a_study_without_dense_is_finished_by_the_same_command(options, monkeypatch):
    config = SearchConfig.of(**options)
    with monkeypatch.context() as patch:  # as drivers that were killed before dense was stored left it
        patch.setattr(assembly, "note_dense", lambda *_args: None)
        patch.setattr(driver, "_decide", killed)
        with pytest.raises(KeyboardInterrupt):
            driver.search(config)
    with Store.open(options["db"]) as store:
        (name,) = (summary.name for summary in store.list_studies())
    for question in (queries.front, queries.show):
        with pytest.raises(StoreError, match="holds no figures"):
            question(options["db"], name)
    found = driver.search(config)
    assert found.data["study"] == name
    assert found.data["dense"]["score"] is not None
    assert sum(found.data["trials"].values()) == options["trials"]
    assert queries.front(options["db"], name, "100%")["front"]


def test_two_drivers_on_one_study_are_refused(run_search, options):
    first = run_search(trials=6)
    wait_for(lambda: evaluated(options["db"])[0], first)
    second = run_search(trials=6)
    _, err = second.communicate(timeout=240)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert second.returncode == 1
    assert "StudyLockedError" in err
