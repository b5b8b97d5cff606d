"""The list of methods and families, and which of them go together: what ``autoprune methods`` prints."""

from __future__ import annotations

import dataclasses
from typing import Any

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import UnsupportedModelError
from autoprune.policy import Stage
from autoprune.pruning.families import FAMILIES
from autoprune.pruning.family import Family
from autoprune.pruning.plan import stage_plan

_NO_TABLE = "sha256:" + "0" * 64


def describe_methods() -> dict[str, list[dict[str, Any]]]:
    """Return ``scorers``, ``reducers`` and ``families`` as JSON types, each entry with ``name`` and ``summary``."""
    return {
        "scorers": [_method(name, item) for name, item in SCORERS.items()],
        "reducers": [_method(name, item) for name, item in REDUCERS.items()],
        "families": [_family(family) for family in FAMILIES],
    }


def refusal(family: Family, scorer: str, reducer: str) -> str | None:
    """Return why a scorer and a reducer cannot work on a family, or None when they can."""
    params = {"table": _NO_TABLE} if takes_table(scorer) else {}
    stage = Stage(layer=1, scorer=scorer, keep=0.5, reduce=reducer, params=params)
    try:
        stage_plan(0, stage, family, 2)
    except UnsupportedModelError as error:
        return error.message
    return None


def takes_table(scorer: str) -> bool:
    """Whether a scorer refers to a table."""
    return any(f.metadata.get("table") for f in dataclasses.fields(SCORERS.get(scorer).Params))


def _method(name: str, item: Any) -> dict[str, Any]:
    params = [
        {"name": f.name, "default": None if f.default is dataclasses.MISSING else f.default, **_json(f.metadata)}
        for f in dataclasses.fields(item.Params)
    ]
    return {"name": name, "summary": item.summary, "needs": sorted(item.needs), "params": params}


def _json(metadata: Any) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in metadata.items()}


def _family(family: Family) -> dict[str, Any]:
    refused = [
        {"scorer": scorer, "reducer": reducer, "reason": reason}
        for scorer in SCORERS.names()
        for reducer in REDUCERS.names()
        if (reason := refusal(family, scorer, reducer)) is not None
    ]
    return {
        "name": family.name,
        "summary": family.summary,
        "model_types": list(family.model_types),
        "searchable": family.searchable,
        "input_stage": family.supports_input_stage,
        "after_attention": family.after_attention is not None,
        "first_token_shortcut": bool(family.first_rows and family.heads),
        "refused": refused,
    }
