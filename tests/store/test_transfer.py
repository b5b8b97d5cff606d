"""A study travels as one file, between databases of either kind, completely or not at all."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from sqlalchemy import select, update

from autoprune.errors import StoreError, StudyLockedError
from autoprune.latency.workload import Workload
from autoprune.store import Store, tables, transfer
from autoprune.testing.studies import make_study, study_record


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "source.db") as source:
        make_study(source, "s", n_trials=10)
        return transfer.export_study(source, "s", tmp_path / "out" / "s.autoprune")


def plain(rows: list[object], *ignored: str) -> list[dict[str, object]]:
    return [{key: value for key, value in vars(row).items() if key not in ignored} for row in rows]


def test_everything_arrives(exported: Path, store: Store) -> None:
    assert transfer.import_study(store, exported) == "s"
    with Store.open(exported.parents[1] / "source.db") as source:
        assert store.require_study("s") == source.require_study("s")
        for read in ("evaluations", "measurements", "fronts"):
            assert plain(getattr(store, read)("s"), "id") == plain(getattr(source, read)("s"), "id"), read
        assert store.points("s") == source.points("s")
        assert store.front("s", 20.0) == source.front("s", 20.0)
        ours, theirs = (optuna.load_study(study_name="s", storage=s.storage) for s in (store, source))
        assert ours.metric_names == theirs.metric_names
        ignored = ("_trial_id",)
        assert plain(list(ours.trials), *ignored) == plain(list(theirs.trials), *ignored)
        assert [t.number for t in ours.best_trials] == [t.number for t in theirs.best_trials]


def test_tables_travel_with_the_policies_that_use_them(tmp_path: Path, store: Store) -> None:
    from autoprune.policy import PruningPolicy, Stage
    from autoprune.store import EvaluationRow

    key = "sha256:" + "ab" * 32
    with Store.open(tmp_path / "source.db") as source:
        source.create_study(study_record("s"))
        source.put_table(key, b"weights")
        source.put_table("sha256:unused", b"no")
        digest = source.add_policy(PruningPolicy(stages=(Stage("input", "lexicon", keep=0.5, params={"table": key}),)))
        source.add_evaluation("s", None, digest, EvaluationRow(10, True, 0.5))
        path = transfer.export_study(source, "s", tmp_path / "s.autoprune")
    transfer.import_study(store, path)
    assert store.get_table(key) == b"weights"
    assert store.get_table("sha256:unused") is None


@pytest.mark.parametrize("early", [False, True])
def test_what_was_learned_travels_with_its_study(tmp_path: Path, store: Store, early: bool) -> None:
    # Under the keys of probing.py, guiding.py and tables.py.
    timed, words = Workload.fixed(256), {} if early else {"digest": Workload.fixed(256).digest()}
    record = study_record("s")
    record = replace(record, workload={**timed.to_dict(), **words, "describe": timed.describe()},
                     task=record.task | {"data": "da7a"})  # fmt: skip
    hardware, model = str(record.hardware["digest"]), str(record.model["digest"])
    lexicon, other = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
    learned = {"lexicon:320x256:da7a": {"lexicon": lexicon}, f"harm:da7a:{lexicon}": {"cls": [[1, 0.5, 0.01]]}}
    with Store.open(tmp_path / "source.db") as source:
        source.create_study(record)
        source.put_cost_table(hardware, model, timed.digest(), {"ms": [1]})
        source.put_cost_table(hardware, model, "another workload", {"ms": [2]})
        for key in (lexicon, other):
            source.put_table(key, key.encode())
        source.put_profile(model, f"harm:da7a:{lexicon}", {"cls": []})
        for key, facts in learned.items():
            source.put_profile(model, key, facts)
        source.put_profile(model, "harm:0714:", {"lexicon": other})
        source.put_profile("another model", "harm:da7a:", {})
        path = transfer.export_study(source, "s", tmp_path / "s.autoprune")
    transfer.import_study(store, path)
    assert {key: store.get_profile(model, key) for key in learned} == learned
    assert len(store.profiles()) == 2
    assert store.get_cost_table(hardware, model, timed.digest()) == {"ms": [1]}
    assert store.get_cost_table(hardware, model, "another workload") is None
    assert (store.get_table(lexicon), store.get_table(other)) == (lexicon.encode(), None)


def test_no_address_leaves_the_database(tmp_path: Path) -> None:
    # Early versions stored the address with its password among the options; with AUTOPRUNE_DB nobody even typed it.
    url = "postgresql://me:geheim@host/x"
    with Store.open(tmp_path / "old.db") as old:
        record = study_record("s")
        old.create_study(replace(record, config=record.config | {"options": {"seed": 0, "db": url}}))
        with old.engine.connect() as connection:
            assert "geheim" not in str(connection.execute(select(tables.Study.config)).scalar())
        with old.transaction() as session:
            session.execute(update(tables.Study).values(config=record.config | {"options": {"seed": 0, "db": url}}))
        assert old.require_study("s").config["options"] == {"seed": 0}
        with zipfile.ZipFile(transfer.export_study(old, "s", tmp_path / "s.zip")) as archive:
            assert all(b"geheim" not in archive.read(name) for name in archive.namelist())


def test_taken_name_and_another_name(exported: Path, store: Store) -> None:
    transfer.import_study(store, exported)
    with pytest.raises(StoreError, match="already"):
        transfer.import_study(store, exported)
    assert transfer.import_study(store, exported, "copy") == "copy"
    assert [point.trial for point in store.front("copy")] == [point.trial for point in store.front("s")]
    assert len(store.list_studies()) == 2


def test_a_strangers_optuna_study_is_left_alone(exported: Path, store: Store) -> None:
    optuna.create_study(study_name="s", storage=store.storage).enqueue_trial({"x": 1})
    with pytest.raises(StoreError, match="Optuna has a study"):
        transfer.import_study(store, exported)
    assert len(optuna.load_study(study_name="s", storage=store.storage).trials) == 1
    assert store.list_studies() == []


@pytest.mark.parametrize(
    "entry", ["study.json", "policies.json", "evaluations.json", "measurements.json", "fronts.json"]
)
def test_damaged_file_leaves_nothing(exported: Path, store: Store, entry: str) -> None:
    broken = exported.with_name("broken.autoprune")
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            if name == entry == "fronts.json":
                target.writestr(name, source.read(name)[:-40])
            elif name != entry:
                target.writestr(name, source.read(name))
    with pytest.raises(StoreError, match="no exported study, or is damaged"):
        transfer.import_study(store, broken)
    assert store.list_studies() == []
    assert optuna.get_all_study_names(store.storage) == []
    assert store.get_policy("") is None


def test_import_that_died_is_done_again(exported: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        # The process dies after Optuna's part: neither our rows nor the clean-up happen.
        patched.setattr(transfer, "_read_ours", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patched.setattr(transfer.optuna_transfer, "discard", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            transfer.import_study(store, exported)
    assert optuna.get_all_study_names(store.storage) == ["s"]
    transfer.import_study(store, exported)
    assert len(optuna.load_study(study_name="s", storage=store.storage).trials) == 11


def test_files_that_are_no_study(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StoreError, match="no exported study"):
        transfer.import_study(store, tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(StoreError, match="no exported study"):
        transfer.import_study(store, tmp_path / "text")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"format": "other"}))
    with pytest.raises(StoreError, match="another program"):
        transfer.import_study(store, tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "newer.zip", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"format": "autoprune-study", "format_version": 99}))
    with pytest.raises(StoreError, match="newer autoprune"):
        transfer.import_study(store, tmp_path / "newer.zip")


def test_export_to_a_place_that_cannot_be_written(exported: Path) -> None:
    with Store.open(exported.parents[1] / "source.db") as source, pytest.raises(StoreError, match="cannot be written"):
        transfer.export_study(source, "s", exported / "below")
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_a_study_under_work_is_not_exported(exported: Path) -> None:
    # Our part and Optuna's cannot be read in one transaction.
    with Store.open(exported.parents[1] / "source.db") as source, source.lock("s"):
        with pytest.raises(StudyLockedError) as caught:
            transfer.export_study(source, "s", exported.with_name("half.autoprune"))
        assert "search has ended" in caught.value.hint
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    with Store.open(f"sqlite:///file:{exported.parents[1]}/source.db?mode=ro") as source:
        assert transfer.export_study(source, "s", exported.with_name("copy.autoprune")).stat().st_size


def test_no_pickle_inside(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {".json", ".bin"}
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith(".json"):
                json.loads(data)
            else:
                assert data.startswith(b"PK")  # npz without objects: read with allow_pickle=False elsewhere
