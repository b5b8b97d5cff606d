"""Ray Tune on autoprune's space: a ``Searcher`` over the same study, and a trainable that scores rung by rung.

``tune_session`` opens both. Every trial of Tune is a trial of the study, with its policy projected onto the
budget and its evaluations in the database. Latency is timed when no trial runs, in pairs with dense, as in
``autoprune.search``; ``TuneSession.result`` times what is left and verifies the winners.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from ray import tune
from ray.tune.search import Searcher

from autoprune.engine.scoreboard import Scoreboard
from autoprune.errors import ConfigError
from autoprune.evaluate.evaluator import Evaluator, Job
from autoprune.evaluate.pools.ray import connect, on_cpu
from autoprune.evaluate.quality import Logits
from autoprune.evaluate.rungs import next_rung
from autoprune.integrations.sitting import Sitting, open_sitting
from autoprune.policy import PruningPolicy

if TYPE_CHECKING:
    from autoprune.engine.events import Observer
    from autoprune.engine.proposals import Proposal
    from autoprune.engine.result import SearchResult
    from autoprune.pruning.tables import TableSet
    from autoprune.tasks.base import Task

METRIC, TIME_ATTR = "kl", "examples"
"""What a scheduler should minimise, and what it should count as time."""
_DRAIN = 8  # fully scored policies that wait to be timed before new trials are held back


@dataclass(frozen=True)
class Scored:
    """What a trial found on one rung; it travels beside Tune's result, which is logged as text.

    Attributes:
        digest: The policy's digest.
        start: Examples known before.
        logits: Of this rung alone, shape (n, classes).
        seconds: Time that the worker spent.
    """

    digest: str
    start: int
    logits: Logits
    seconds: float


class Ledger:
    """An actor where trials leave what they found, for the searcher to fetch."""

    def __init__(self) -> None:
        self._found: dict[str, list[Scored]] = {}

    def add(self, scored: Scored) -> None:
        """Leave a rung."""
        self._found.setdefault(scored.digest, []).append(scored)

    def take(self, digest: str) -> list[Scored]:
        """Fetch all rungs of a policy that were not fetched yet."""
        return self._found.pop(digest, [])


class PolicyTrainable(tune.Trainable):
    """Scores the policy ``config["policy"]`` on 64, 256, ... examples, one rung per step.

    Each result holds ``examples``, ``kl`` (mean, nats, to minimise), ``score`` and ``agreement`` (0 to 1) and
    ``drop``. A policy that fails reports ``failed`` with the reason and an infinite ``kl``.
    """

    def setup(
        self,
        config: dict[str, Any],
        task: Task | None = None,
        tables: TableSet | None = None,
        dense: Logits | None = None,
        ledger: Any = None,
    ) -> None:
        """Load the model once per actor; ``reset_config`` keeps it.

        Raises:
            ConfigError: The trainable was not made by ``tune_session``.
        """
        if task is None or tables is None or dense is None:
            raise ConfigError("PolicyTrainable lacks its task.", "Take `trainable` from `tune_session`.")
        _use_device(task)
        self._evaluator = Evaluator(task, tables)
        self._task, self._dense, self._ledger = task, dense, ledger
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next policy on the same model."""
        self.config = new_config
        self._policy = PruningPolicy.from_dict(json.loads(new_config["policy"]))
        self._digest = self._policy.digest()
        self._scoreboard = Scoreboard(self._task, self._dense)
        return True

    def step(self) -> dict[str, Any]:
        """Score the next rung."""
        import ray

        done, n = self._scoreboard.done(self._digest), self._scoreboard.n_examples
        size = next_rung(done, n) or n
        outcome = self._evaluator.run(Job(self._digest, self._policy, done, size))
        if outcome.logits is None:
            return {TIME_ATTR: done, METRIC: float("inf"), "score": 0.0, "failed": outcome.error, "done": True}
        self._scoreboard.add(self._digest, done, outcome.logits)
        quality = self._scoreboard.quality(self._digest)
        ray.get(self._ledger.add.remote(Scored(self._digest, done, outcome.logits, outcome.seconds)))
        return {
            TIME_ATTR: size,
            METRIC: quality.kl,
            "score": quality.score,
            "drop": quality.drop,
            "agreement": quality.agreement,
            "done": size == n,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keep nothing: the database has every finished rung, and a restarted trial begins anew."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Begin anew."""


class PolicySearcher(Searcher):
    """Proposes policies of the study and tells it what Tune found.

    Args:
        sitting: The open study.
        ledger: Handle of the ``Ledger`` actor.
    """

    def __init__(self, sitting: Sitting, ledger: Any) -> None:
        super().__init__()
        self._sitting: Sitting | None = sitting
        self._ledger = ledger
        self._trials: dict[str, Proposal] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Return the next policy, ``FINISHED`` when none is left, or None while timing has to wait."""
        sitting = self._open()
        if sitting.waiting >= _DRAIN:
            if self._trials:
                return None  # timing needs the machine: let the trials under way end first
            sitting.time_waiting()
        proposal = sitting.begin()
        if proposal is None:
            return str(self.FINISHED)
        self._trials[trial_id] = proposal
        policy = proposal.policy
        return {
            "policy": json.dumps(policy.to_dict(), sort_keys=True),
            "describe": policy.describe(),
            "predicted_ms": proposal.predicted_ms,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store a rung."""
        self._collect(self._trials[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study: stopped, failed, or scored on all examples and waiting to be timed."""
        proposal = self._trials.pop(trial_id, None)
        if proposal is None:
            return
        sitting = self._open()
        done = self._collect(proposal)
        failed = (result or {}).get("failed")
        if done == sitting.n_examples:
            sitting.await_timing(proposal)
        elif error or failed:
            sitting.end(proposal, TrialState.FAIL, str(failed or "Ray Tune lost the trial"))
        else:
            sitting.end(proposal, TrialState.PRUNED, f"stopped by Ray Tune after {done} examples")

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study in the database is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Keep nothing: ``tune_session`` with the same options goes on where the last one ended."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher beside its results; an open database cannot travel.
        return {**self.__dict__, "_sitting": None, "_ledger": None, "_trials": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> PolicySearcher:
        return self

    def _open(self) -> Sitting:
        if self._sitting is None:
            raise ConfigError(
                "This searcher was restored from a file and has no open study.",
                "Open `tune_session` with the same options instead: the study in the database goes on.",
            )
        return self._sitting

    def _collect(self, proposal: Proposal) -> int:
        """Store the rungs that the trial has left; return how many examples are known."""
        import ray

        sitting = self._open()
        for scored in ray.get(self._ledger.take.remote(proposal.digest)):
            sitting.keep(proposal, scored.start, scored.logits, scored.seconds)
        return sitting.done(proposal)


@dataclass
class TuneSession:
    """What a Tuner needs of a study, and what comes of it.

    Attributes:
        trainable: For ``tune.Tuner``; one core each, and the GPUs of ``gpus_per_worker``.
        searcher: For ``TuneConfig(search_alg=...)``.
        n_examples: Examples of the last rung: ``max_t`` of a scheduler.
        study: Name of the study.
    """

    trainable: Any
    searcher: PolicySearcher
    n_examples: int
    study: str
    _sitting: Sitting

    def result(self) -> SearchResult:
        """Time what is left, verify the winners, and return the result as ``autoprune.search`` would."""
        return self._sitting.result()


@contextmanager
def tune_session(observer: Observer | None = None, **options: Any) -> Iterator[TuneSession]:
    """Open the study that ``autoprune.search`` with the same options would open, for a Tuner.

    Args:
        observer: Told of progress.
        **options: See ``SearchConfig``; the Tuner decides how many trials there are and where they run.

    Yields:
        Trainable and searcher, valid until the context ends. Ray is started unless it runs.

    Raises:
        AutopruneError: Bad input, another driver works on the study, or the budget needs no search.
    """
    import ray

    owned = connect(options.get("ray_address"), None)
    try:
        with open_sitting(observer, options) as sitting:
            handle: Any = ray.remote(num_cpus=0)(Ledger)
            ledger = handle.remote()
            task = on_cpu(sitting.task)
            trainable = tune.with_parameters(
                PolicyTrainable, task=task, tables=sitting.tables, dense=sitting.dense, ledger=ledger
            )
            if sitting.worker_gpus:
                trainable = tune.with_resources(trainable, {"cpu": 1, "gpu": sitting.worker_gpus})
            searcher = PolicySearcher(sitting, ledger)
            yield TuneSession(trainable, searcher, sitting.n_examples, sitting.study_name, sitting)
            ray.kill(ledger)
            sitting.time_waiting()
    finally:
        if owned:
            ray.shutdown()


def _use_device(task: Task) -> None:
    """Use one core, and the GPU if Tune has reserved (a share of) one for this trial."""
    import ray
    import torch

    torch.set_num_threads(1)
    if ray.get_gpu_ids() and torch.cuda.is_available():
        task.model.to("cuda")  # type: ignore[arg-type]  # transformers narrows the overloads of torch
