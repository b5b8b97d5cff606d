"""Which tokens go: the promised policy run over a few of the task's own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoprune.errors import AutopruneError, DataError
from autoprune.policy import PruningPolicy
from autoprune.report.gather import TokenExample
from autoprune.report.words import pick

if TYPE_CHECKING:
    from autoprune.store.repository import Store

_SPEC = (
    "model",
    "dataset",
    "kind",
    "metric",
    "split",
    "text_columns",
    "label_column",
    "trust_remote_code",
    "max_examples",
)
_LONGEST = 128  # tokens of an example: a report is read by people


def token_examples(store: Store, study: str, n: int = 10) -> list[TokenExample]:
    """Load the study's model and texts, and record what the promised policy removes.

    Args:
        store: The open database.
        study: Name of the study.
        n: How many texts.

    Raises:
        AutopruneError: The study has no promised policy, or its model, data or tables are not here.
    """
    import torch

    from autoprune.pruning.attach import attach
    from autoprune.pruning.tables import TableSet
    from autoprune.tasks.base import TaskSpec, load_task

    record = store.find_study(study)
    facts = pick(record.result, "best", "policy") or (record.result or {}).get("policy")
    if facts is None:
        raise DataError("The study has promised no policy.")
    policy = PruningPolicy.from_dict(facts)
    tables = TableSet()
    for key in policy.tables():
        data = store.get_table(key)
        if data is None:
            raise DataError(f"The table {key[:19]} of the policy is not in the database.")
        for table in TableSet.from_bytes(data).values():
            tables.add(table)
    task = load_task(TaskSpec.from_dict({name: record.task[name] for name in _SPEC if name in record.task}))
    with torch.inference_mode(), attach(task.model, policy, tokenizer=task.tokenizer, tables=tables) as handle:
        return [_example(task, handle, policy, text) for text in task.texts[:n]]


def _example(task: Any, handle: Any, policy: PruningPolicy, text: Any) -> TokenExample:
    pair = (text,) if isinstance(text, str) else text
    encoded = task.tokenizer(*pair, truncation=True, max_length=_LONGEST, return_tensors="pt")
    with handle.record() as trace:
        task.model(**encoded)
    ids = encoded["input_ids"][0].tolist()
    left: list[int | None] = [None] * len(ids)
    for stage in trace.stages:
        for position in set(stage.before[0]) - set(stage.kept[0]):
            left[position] = stage.stage
    names = [stage.describe() for stage in policy.stages]
    return TokenExample(task.tokenizer.convert_ids_to_tokens(ids), left, names)


def examples_or_reason(store: Store, study: str, n: int = 10) -> tuple[list[TokenExample], str]:
    """Return examples, or none and why; a report is written either way."""
    try:
        return token_examples(store, study, n), ""
    except AutopruneError as error:
        return [], error.message
    except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        # Whatever keeps somebody else's model from loading here must not keep the report from being written.
        return [], f"The model could not be run here: {error}"
