"""``DraftStorage``: Optuna's storage for the one process that writes a study.

Optuna writes each parameter of a trial in a transaction of its own, and reads trials back at every turn.
Here a trial that is being asked is a draft in memory: it is written in one transaction when it is kept or
told, and what this process has written it does not read again. Other clients see what the database holds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import StoreError
from autoprune.store.known_trials import KnownTrials, copied

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage


_FIRST_ID = 2**62  # of drafts, far above those on disk


class DraftStorage(KnownTrials):
    """Trials in memory, at most one of them not on disk yet. Not for several threads.

    A draft that dies with its process was never there. Trials that others add meanwhile (``enqueue_trial``
    from another program) are taken in when the next one is asked for; what others change in trials that are
    known already stays unseen.

    Args:
        disk: The storage that keeps everything.
    """

    def __init__(self, disk: BaseStorage) -> None:
        super().__init__(disk)
        self._draft: int | None = None
        self._next_id = itertools.count(_FIRST_ID)

    def keep(self, trial_id: int) -> None:
        """Write a trial as it stands, if it is a draft.

        Raises:
            StoreError: Another program has added a trial to the study since this one was asked for.
        """
        if trial_id != self._draft:
            return
        study_id, number = self._place[trial_id]
        trial = copied(self._trials[study_id][number])
        written = self._disk.create_new_trial(study_id, template_trial=trial)
        if self._disk.get_trial_id_from_study_id_trial_number(study_id, number) != written:
            raise StoreError(
                f"Another program has written trial {number} of this study to the database while the search ran.",
                "Let one program at a time add trials; the same command goes on.",
            )
        trial._trial_id, self._trials[study_id][number] = written, trial
        self._place[written] = (study_id, number)  # beside the draft's own: whoever asked for it knows that one
        self._draft = None

    def drop(self, trial_id: int) -> bool:
        """Forget a trial that is a draft: its number is free again.

        Returns:
            Whether it was one; a trial that is on disk stays.
        """
        if trial_id != self._draft:
            return False
        study_id, _ = self._place.pop(trial_id)
        self._trials[study_id].pop()
        self._draft = None
        return True

    def delete_study(self, study_id: int) -> None:
        """Delete a study with its trials."""
        super().delete_study(study_id)
        if self._draft not in self._place:
            self._draft = None

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin a draft, or write a trial that is complete already, and return its id."""
        if self._draft is not None:
            self.keep(self._draft)
        trials = self._known(study_id)
        self._take_in(study_id)
        if template_trial is not None:
            trial_id = self._disk.create_new_trial(study_id, template_trial)
            self._take_in(study_id)
            return trial_id
        self._draft = next(self._next_id)
        self._place[self._draft] = (study_id, len(trials))
        trials.append(_blank(len(trials), self._draft))
        return self._draft

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter."""
        trial = self._altered(trial_id)
        if trial_id != self._draft:
            self._disk.set_trial_param(trial._trial_id, param_name, param_value_internal, distribution)
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        trial.distributions[param_name] = distribution

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set state and values; a draft is written with them.

        Returns:
            Whether it was done: a trial that runs already is not begun again.
        """
        trial = self._altered(trial_id)
        if trial_id == self._draft:
            done = state is not TrialState.RUNNING
        else:
            done = self._disk.set_trial_state_values(trial._trial_id, state, values)
        if not done:
            return False
        trial.state = state
        trial.values = trial.values if values is None else list(values)
        if state is TrialState.RUNNING:
            trial.datetime_start = datetime.now()
        elif state.is_finished():
            trial.datetime_complete = datetime.now()
        self.keep(trial_id)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Set a value on the way."""
        trial = self._altered(trial_id)
        if trial_id != self._draft:
            self._disk.set_trial_intermediate_value(trial._trial_id, step, intermediate_value)
        trial.intermediate_values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write an attribute of a trial."""
        trial = self._altered(trial_id)
        if trial_id != self._draft:
            self._disk.set_trial_user_attr(trial._trial_id, key, value)
        trial.user_attrs[key] = _as_stored(value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write an attribute of Optuna's own."""
        trial = self._altered(trial_id)
        if trial_id != self._draft:
            self._disk.set_trial_system_attr(trial._trial_id, key, value)
        trial.system_attrs[key] = _as_stored(value)


def _blank(number: int, trial_id: int) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )


def _as_stored(value: Any) -> Any:
    """Return what comes back from the database."""
    return json.loads(json.dumps(value))
