"""Names of studies, what is stored of them, and picking up where a search ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from autoprune.engine.proposals import DIGEST_ATTR, POLICY_ATTR, was_evaluated
from autoprune.engine.record import unpack_logits
from autoprune.engine.session import versions
from autoprune.errors import ConfigError
from autoprune.evaluate.rungs import Rival
from autoprune.policy import PruningPolicy
from autoprune.store.rows import StudyRecord

if TYPE_CHECKING:
    from autoprune.engine.projection import Projector
    from autoprune.engine.scoreboard import Scoreboard
    from autoprune.engine.session import Session
    from autoprune.evaluate.quality import Logits
    from autoprune.latency.probe import ProbeResult
    from autoprune.store.repository import Store

_STUDIES = 10  # whose logits are read again: some megabytes each


def pick_study(store: Store, session: Session) -> str:
    """Return the name of the study that this search resumes or begins.

    Raises:
        ConfigError: ``--study`` names a study of another search, or one of Optuna's that is none of ours.
    """
    known = _known(store, session)
    name = session.study_name if known is None else known.name
    # Names that we derive hold a digest; only one that somebody chose can meet a study of somebody else.
    theirs = set(optuna.get_all_study_names(store.storage)) if session.config.study else set()
    if known is None:
        if name in theirs:
            raise ConfigError(
                f"Optuna has a study {name!r} in this database that autoprune did not make.",
                "It is left alone; choose another name with --study.",
            )
        return name
    if session.config.new:
        numbered = (f"{name}-{n}" for n in range(2, 10**6))
        return next(free for free in numbered if free not in theirs and store.get_study(free) is None)
    if known.search_key not in (session.search_key, session.early_key):
        raise ConfigError(
            f"The study {name!r} belongs to another search (other model, data, budget, options or machine).",
            "Choose another name with --study, or add --new.",
        )
    return name


def _known(store: Store, session: Session) -> StudyRecord | None:
    """Return the study of this search's name, or the one that an early version made of the same command."""
    known = store.get_study(session.study_name)
    if known is not None or session.config.study:
        return known
    return next(reversed(store.find_by_search_key(session.early_key)), None)  # the first: others were made by --new


def study_record(session: Session, name: str, probe: ProbeResult, anchor: Mapping[str, float]) -> StudyRecord:
    """Return what is stored when a study begins."""
    budget = session.budget
    return StudyRecord(
        name=name,
        search_key=session.search_key,
        task={
            **session.task.spec.to_dict(),
            "name": session.task.name,
            "data": session.task.fingerprint,
            "n_examples": len(session.task.texts),
        },
        model=session.model_record(),
        workload={
            **session.workload.to_dict(),
            "digest": session.workload.digest(),
            "describe": session.workload.describe(),
        },
        hardware={
            **session.hardware.to_dict(),
            "digest": session.hardware.digest(),
            "describe": session.hardware.describe(),
        },
        budget={
            "text": budget.text,
            "statistic": budget.statistic,
            "limit_ms": budget.limit_ms(anchor[budget.statistic]),
        },
        config={"options": session.config.model_dump(mode="json", exclude={"db"}), "probe": probe.to_dict()},
        versions=versions(),
    )


def stored_logits(store: Store, study: str) -> dict[str, Logits]:
    """Return the logits of every policy as far as it was scored, by digest."""
    longest: dict[str, tuple[int, bytes]] = {}
    for row in store.evaluations(study):
        if row.per_example is not None and row.n_examples > longest.get(row.digest, (0, b""))[0]:
            longest[row.digest] = (row.n_examples, row.per_example)
    return {digest: unpack_logits(data) for digest, (_, data) in longest.items()}


def shared_logits(store: Store, session: Session, study: str) -> dict[str, Logits]:
    """Return what the latest other studies scored with this model, data and arithmetic, by digest of the policy.

    Equal policies have equal logits there, whatever their budget: nothing need be scored again.
    """
    others = (one.name for one in store.list_studies(model=session.task.model_digest) if one.name != study)
    alike = (name for name in others if _scores_alike(store.get_study(name), session))
    found: dict[str, Logits] = {}
    for name in islice(alike, _STUDIES):
        longer = stored_logits(store, name)
        found |= {digest: x for digest, x in longer.items() if len(x) >= len(found.get(digest, ()))}
    return found


def _scores_alike(record: StudyRecord | None, session: Session) -> bool:
    if record is None:  # deleted meanwhile
        return False
    own = session.workload.to_dict()
    same = all(record.workload.get(name) == own[name] for name in ("dtype", "device", "attention"))
    return same and record.task.get("data") == session.task.fingerprint


def restore(
    study: optuna.Study, scoreboard: Scoreboard, projector: Projector, logits: Mapping[str, Logits]
) -> tuple[int, dict[str, Rival]]:
    """Give the scoreboard and the projector what an earlier sitting found.

    Returns:
        Policies tried so far (dense not counted), and the finished ones that others are compared with.
    """
    for digest, known in logits.items():
        scoreboard.add(digest, 0, known[: scoreboard.n_examples])
    tried, rivals = 0, dict[str, Rival]()
    for trial in study.get_trials(deepcopy=False):
        if trial.number == 0 or not was_evaluated(trial):
            continue
        tried += 1
        own = str(trial.user_attrs[DIGEST_ATTR])
        if trial.state is TrialState.COMPLETE and scoreboard.done(own) == scoreboard.n_examples:
            rivals[own] = Rival(trial.values[0], scoreboard.kl(own))
            projector.observe(PruningPolicy.from_dict(json.loads(trial.user_attrs[POLICY_ATTR])), trial.values[0])
    return tried, rivals
