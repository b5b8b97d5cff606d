"""An export is whole, loads in a fresh process as the plain class, and is never half written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import autoprune
from autoprune.deploy import save as save_module
from autoprune.deploy.load import load, load_dense
from autoprune.deploy.policy_file import POLICY_FILE, TABLES_FILE, read_policy_file
from autoprune.deploy.save import save_pruned
from autoprune.errors import AssetError, ConfigError, InputError, ModelError, PolicyError
from autoprune.policy import PruningPolicy
from autoprune.pruning.attach import attach

TEXT = "the cat sat on the mat and then it was very happy under the good tree"


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(**tokenizer([TEXT, "a dog ran"], return_tensors="pt", padding=True)).logits


def test_the_weights_are_those_of_the_dense_model(tiny: Any, exported: Path) -> None:
    saved = load_file(exported / "model.safetensors")
    dense = tiny.model.state_dict()
    assert set(saved) == set(dense)
    assert all(torch.equal(saved[name], dense[name]) for name in saved)


def test_a_loaded_export_is_the_plain_class_and_prunes(tiny: Any, exported: Path) -> None:
    dense, tokenizer = load_dense(exported)
    with attach(tiny.model, tiny.policy, tokenizer=tiny.tokenizer, tables=tiny.tables):
        wanted = logits(tiny.model, tiny.tokenizer)
    model = load(exported)
    assert type(model) is transformers.BertForSequenceClassification
    assert not model.training
    assert torch.allclose(logits(model, tokenizer), wanted, atol=1e-6)
    assert not torch.allclose(logits(dense, tokenizer), wanted, atol=1e-4)


def test_saving_and_loading_draw_no_bars(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    model, tokenizer = load_dense(exported)
    save_pruned(model, tokenizer, PruningPolicy(), exported)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_autoprune_load_is_the_same_function() -> None:
    assert autoprune.load is load


def test_a_pipeline_works_in_a_fresh_process(exported: Path, tiny: Any) -> None:
    program = f"""
import autoprune, transformers
model = autoprune.load({str(exported)!r})
classify = transformers.pipeline("text-classification", model=model, tokenizer={str(exported)!r}, top_k=None)
print(sorted((row["label"], round(row["score"], 4)) for row in classify([{TEXT!r}, "a dog"], batch_size=2)[0]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with attach(tiny.model, tiny.policy, tokenizer=tiny.tokenizer, tables=tiny.tables):
        scores = logits(tiny.model, tiny.tokenizer)[0].softmax(-1).tolist()
    names = tiny.model.config.id2label
    assert done.stdout.strip() == str(sorted((names[i], round(score, 4)) for i, score in enumerate(scores)))


def test_saving_a_model_that_carries_a_policy_saves_the_plain_model(tiny: Any, exported: Path, tmp_path: Path) -> None:
    again = save_pruned(load(exported), tiny.tokenizer, PruningPolicy(), tmp_path / "again")
    assert json.loads((again / "config.json").read_text()) == json.loads((exported / "config.json").read_text())
    model, tokenizer = load_dense(again)
    assert torch.equal(logits(model, tokenizer), logits(tiny.model, tiny.tokenizer))


def test_only_needed_tables_are_written(tiny: Any, exported: Path, tmp_path: Path) -> None:
    names = {name.partition("/")[0] for name in load_file(exported / TABLES_FILE)}
    assert names == set(tiny.policy.tables())
    bare = save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), tmp_path / "bare", tables=tiny.tables)
    assert not (bare / TABLES_FILE).exists()
    assert load(bare) is not None


def test_the_policy_file_says_what_was_promised(exported: Path, tiny: Any) -> None:
    file = read_policy_file(exported)
    assert file.policy == tiny.policy
    assert file.policy.digest() == tiny.policy.digest()
    assert (file.figures["ratio"], file.workload, file.hardware) == (0.4, {"batch_size": 1}, {"cpu": "test"})
    assert (file.versions, file.study) == ({"autoprune": "0.1.0"}, {"name": "s", "trial": 3})


def test_a_missing_table_is_named_before_anything_is_written(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=next(tiny.policy.tables())):
        save_pruned(tiny.model, tiny.tokenizer, tiny.policy, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_an_older_export_is_replaced(tiny: Any, exported: Path) -> None:
    save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), exported)
    assert read_policy_file(exported).policy.is_dense
    assert not (exported / TABLES_FILE).exists()
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_an_empty_folder_is_used_and_parents_are_made(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), tmp_path / "empty")
    deep = save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), tmp_path / "a" / "b")
    assert (deep / POLICY_FILE).is_file()
    assert deep.stat().st_mode & 0o777 == (tmp_path / "a").stat().st_mode & 0o777


def test_foreign_files_are_left_alone(tiny: Any, exported: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="no autoprune export"):
        save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), own)
    assert [path.name for path in own.iterdir()] == ["thesis.txt"]
    (exported / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), exported)
    assert read_policy_file(exported).policy == tiny.policy
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), tmp_path / "file")


def test_a_failed_export_leaves_the_old_one_and_no_rubbish(
    tiny: Any, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save_module.PolicyFile, "write", full)
    with pytest.raises(InputError, match="no space left"):
        save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), exported)
    assert load(exported) is not None
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(extra=1), "unknown fields: extra"),
        (lambda data: data["policy"].update(magic=True), "unknown fields: magic"),
        (lambda data: data["policy"]["stages"][0].update(speed=9), "unknown fields: speed"),
        (lambda data: data.update(version=2), "version 2"),
        (lambda data: data["policy"].update(version=9), "version 9"),
        (lambda data: data.pop("policy"), "holds no policy"),
        (lambda data: data.update(figures=[]), "figures must be a JSON object"),
        (lambda data: data["policy"]["stages"][0].update(keep=1.5), "keep"),
    ],
)
def test_bad_policy_files_are_refused(exported: Path, change: Any, words: str) -> None:
    path = exported / POLICY_FILE
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(PolicyError, match=words):
        load(exported)


def test_other_damage_is_named(tiny: Any, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no autoprune export"):
        load(tmp_path / "empty")
    with pytest.raises(ConfigError, match="no device 'abacus'"):
        load(exported, device="abacus")
    key = next(tiny.policy.tables())
    save_file({f"{key}/importance": torch.zeros(3)}, exported / TABLES_FILE)
    with pytest.raises(AssetError, match="damaged"):
        load(exported)
    (exported / TABLES_FILE).unlink()
    with pytest.raises(AssetError):
        load(exported)
    (exported / POLICY_FILE).write_text("{")
    with pytest.raises(PolicyError, match="no valid JSON"):
        load(exported)


def test_missing_weights_and_unknown_classes_are_named(tiny: Any, tmp_path: Path) -> None:
    folder = save_pruned(tiny.model, tiny.tokenizer, PruningPolicy(), tmp_path / "x")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["EvilForAnything"]}))
    with pytest.raises(ModelError, match="EvilForAnything"):
        load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
