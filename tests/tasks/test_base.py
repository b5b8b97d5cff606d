import json
import subprocess
import sys

import pytest

from autoprune.errors import ConfigError
from autoprune.tasks.base import TaskSpec


def test_a_specification_survives_json():
    spec = TaskSpec(
        model="org/model",
        dataset="data.csv",
        metric="f1",
        split="dev",
        text_columns=("premise", "hypothesis"),
        label_column="gold",
        trust_remote_code=True,
        max_examples=100,
    )

    assert TaskSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert TaskSpec.from_dict({}) == TaskSpec()


def test_text_columns_are_a_tuple_so_that_specifications_can_be_hashed():
    assert hash(TaskSpec(text_columns=["a", "b"])) == hash(TaskSpec(text_columns=("a", "b")))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"modle": "x"}, "unknown fields: modle"),
        ({"text_columns": ["a", "b", "c"]}, "At most two"),
        ({"max_examples": 1}, "At least 2"),
    ],
)
def test_a_wrong_specification_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        TaskSpec.from_dict(data)


def test_specifications_need_no_heavy_import():
    code = (
        "import sys, autoprune.tasks.base, autoprune.tasks.text_classification, autoprune.tasks.quickstart;"
        "print([m for m in ('torch', 'transformers', 'pandas', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"
