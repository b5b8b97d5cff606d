"""Trials that are asked for stay in memory until they are kept or told; then every client finds them."""

import itertools

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState
from sqlalchemy import event

from autoprune._registry import SAMPLERS
from autoprune.errors import StoreError
from autoprune.store import Store
from autoprune.store.drafts import DraftStorage
from autoprune.store.optuna_study import DIRECTIONS, drop, keep, open_optuna_study, reopen_stale, set_constraint

SPACE = {
    **{f"x{i}": FloatDistribution(0, 1) for i in range(12)},
    "method": CategoricalDistribution(["cut", "merge"]),
}


ROUNDS = {"gp": 12, "nsga2": 48}  # slow, and a generation of 20 that must end


class TestAsOptunaTestsStorages(StorageTestCase):
    """Optuna's own suite of what every storage must do."""

    @pytest.fixture
    def storage(self, sqlite_url: str) -> DraftStorage:
        return DraftStorage(RDBStorage(f"sqlite:///{sqlite_url}"))


def on_disk(store: Store) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="s", storage=store.address.url).get_trials()


def facts(trial: optuna.trial.FrozenTrial) -> tuple[object, ...]:
    return (
        trial.number, trial.state, trial.values, trial.params, trial.distributions,
        trial.user_attrs, trial.system_attrs, trial._trial_id,
    )  # fmt: skip


def test_a_trial_is_in_the_database_once_it_is_kept_or_told(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    kept = study.ask(SPACE)
    kept.set_user_attr("policy", "p")
    assert on_disk(store) == []
    assert [trial.params for trial in study.get_trials()] == [kept.params]
    keep(kept)
    [found] = on_disk(store)
    assert (found.state, found.params, found.user_attrs) == (TrialState.RUNNING, kept.params, {"policy": "p"})
    refused = study.ask(SPACE)
    refused.set_user_attr("why", "slow")
    study.tell(refused, state=TrialState.PRUNED)
    assert [trial.state for trial in on_disk(store)] == [TrialState.RUNNING, TrialState.PRUNED]
    keep(refused)  # told already: nothing is left to do
    kept.set_user_attr("kl", [(64, 0.5)])
    set_constraint(kept, -1.0)
    study.tell(kept, [20.0, 0.9])
    assert [facts(trial) for trial in study.get_trials()] == [facts(trial) for trial in on_disk(store)]
    assert study.best_trials[0].user_attrs["kl"] == [[64, 0.5]]


def test_an_unwritten_trial_dies_with_its_process_and_a_kept_one_is_asked_again(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    kept = study.ask(SPACE)
    keep(kept)
    study.ask(SPACE)
    again = open_optuna_study(store, "s")
    reopen_stale(again)
    assert [trial.state for trial in again.get_trials()] == [trial.state for trial in on_disk(store)]
    assert [(t.state, t.params) for t in on_disk(store)] == [(TrialState.WAITING, kept.params)]
    assert again.ask(SPACE).params == kept.params


def test_a_dropped_trial_leaves_no_trace(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"x0": 0.5})
    queued = study.ask(SPACE)
    assert not drop(queued)
    dropped = study.ask(SPACE)
    dropped.set_user_attr("why", "slow")
    assert drop(dropped)
    assert not drop(dropped)
    with pytest.raises(KeyError):
        study.tell(dropped, state=TrialState.PRUNED)
    kept = study.ask(SPACE)
    keep(kept)
    assert not drop(kept)
    assert [trial.params for trial in on_disk(store)] == [queued.params, kept.params]
    assert [facts(trial) for trial in study.get_trials()] == [facts(trial) for trial in on_disk(store)]


def test_optunas_own_memory_drops_nothing() -> None:
    study = optuna.create_study()
    trial = study.ask(SPACE)
    keep(trial)
    assert not drop(trial)
    study.tell(trial, 1.0)


@pytest.mark.parametrize("name", ["evolution", "autoprune", "tpe"])
def test_samplers_bear_that_the_last_trial_is_gone(sqlite_url: str, name: str) -> None:
    with Store.open(sqlite_url) as store:
        study = open_optuna_study(store, "s", SAMPLERS.get(name)(0))
        play(study, 18)
        for number in (18, 19):
            trial = study.ask(SPACE)
            assert trial.number == number
            assert drop(trial)
            if number == 18:
                optuna.load_study(study_name="s", storage=store.address.url).enqueue_trial({"x0": 0.5})
        queued = study.ask(SPACE)  # now there is no trial 19 that the sampler may have seen
        assert (queued.number, queued.params["x0"]) == (18, 0.5)
        study.tell(queued, [1.0, 0.5])
        play(study, 6)
        assert len(on_disk(store)) == 25


def test_the_next_trial_writes_the_one_before(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    first, second = study.ask(SPACE), study.ask(SPACE)
    assert [trial.params for trial in on_disk(store)] == [first.params]
    study.tell(second, state=TrialState.FAIL)
    study.tell(first, [1.0, 0.5])
    assert [facts(trial) for trial in study.get_trials()] == [facts(trial) for trial in on_disk(store)]


def test_asking_takes_one_transaction_that_writes(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    keep(study.ask(SPACE))
    written = []
    event.listen(
        store.storage.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: written.append(statement.split()[0]),
    )
    ended = itertools.count()
    event.listen(store.storage.engine, "commit", lambda _: next(ended))
    trial = study.ask(SPACE)
    trial.set_user_attr("policy", "p")
    trial.set_user_attr("digest", "d")
    assert {word for word in written if word != "SELECT"} == set()
    keep(trial)
    # The writing itself, and a look whether the number was still free.
    assert next(ended) == 2


def test_trials_that_others_enqueue_are_asked_for(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    study.tell(study.ask(SPACE), [1.0, 0.5])
    optuna.load_study(study_name="s", storage=store.address.url).enqueue_trial({"x0": 0.125}, user_attrs={"by": "hand"})
    study.tell(study.ask(SPACE), [1.0, 0.5])
    asked = study.ask(SPACE)
    assert (asked.number, asked.params["x0"], asked.user_attrs) == (1, 0.125, {"by": "hand"})
    study.tell(asked, [1.0, 0.5])
    assert [facts(trial) for trial in study.get_trials()] == [facts(trial) for trial in on_disk(store)]


def test_a_number_that_another_program_took_is_an_error(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    trial = study.ask(SPACE)
    optuna.load_study(study_name="s", storage=store.address.url).enqueue_trial({"x0": 0.125})
    with pytest.raises(StoreError, match="Another program has written trial 0"):
        keep(trial)
    assert [found.number for found in open_optuna_study(store, "s").get_trials()] == [0, 1]


def play(study: optuna.Study, rounds: int) -> None:
    """Ask, refuse every third, tell every second of the others late."""
    open_trials = []
    for turn in range(rounds):
        trial = study.ask(SPACE)
        if turn % 3 == 2:
            trial.set_user_attr("why", "refused")
            study.tell(trial, state=TrialState.PRUNED)
            continue
        trial.set_user_attr("policy", str(turn))
        keep(trial)
        open_trials.append(trial)
        if len(open_trials) == 3:
            for one in (open_trials.pop(1), open_trials.pop(0)):
                set_constraint(one, one.params["x0"] - 0.8)
                study.tell(one, [one.params["x0"] + one.params["x1"], one.params["x2"]])


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_samplers_propose_what_they_would_on_optunas_own_storage(sqlite_url: str, name: str) -> None:
    with Store.open(sqlite_url) as store:
        plain = optuna.create_study(storage=store.storage, study_name="plain", directions=DIRECTIONS)
        ours = open_optuna_study(store, "s")
        for study in (plain, ours):
            study.sampler = SAMPLERS.get(name)(7)
            play(study, ROUNDS.get(name, 24))
        expected, got = plain.get_trials(), ours.get_trials()
        assert [trial.params for trial in got] == [trial.params for trial in expected]
        assert [trial.state for trial in got] == [trial.state for trial in expected]
        assert [facts(trial) for trial in got] == [facts(trial) for trial in on_disk(store)]
        assert [t.system_attrs for t in got] == [t.system_attrs for t in expected]


def test_a_later_sitting_finds_the_parents_of_a_genetic_sampler(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        study = open_optuna_study(store, "s", SAMPLERS.get("nsga2")(0))
        play(study, 80)
        stored = store.storage.get_study_system_attrs(study._study_id)
        parents = {trial for key, ids in stored.items() if ":parent:" in key for trial in ids}
        assert parents
        assert parents <= {trial._trial_id for trial in on_disk(store)}
