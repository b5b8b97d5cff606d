"""``KnownTrials``: the half of an Optuna storage that reads trials, from memory."""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import TYPE_CHECKING

from autoprune.store.study_calls import StudyCalls

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState


class KnownTrials(StudyCalls):
    """Reads each trial from disk once; whoever writes one keeps it right here.

    Args:
        disk: The storage that keeps everything.
    """

    def __init__(self, disk: BaseStorage) -> None:
        super().__init__(disk)
        self._trials: dict[int, list[FrozenTrial]] = {}
        self._place: dict[int, tuple[int, int]] = {}  # trial id -> study id and number

    def delete_study(self, study_id: int) -> None:
        """Delete a study with its trials."""
        super().delete_study(study_id)
        self._trials.pop(study_id, None)
        self._place = {trial: place for trial, place in self._place.items() if place[0] != study_id}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial as it is now."""
        study_id, number = self._place[trial_id]
        return copied(self._trials[study_id][number])

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return a study's trials by number, a draft among them."""
        found = [trial for trial in self._known(study_id) if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _known(self, study_id: int) -> list[FrozenTrial]:
        """Return a study's trials, read from disk at the first use."""
        if study_id not in self._trials:
            found = self._disk.get_all_trials(study_id, deepcopy=False)
            self._trials[study_id] = []
            for trial in found:
                self._remember(study_id, trial)
        return self._trials[study_id]

    def _take_in(self, study_id: int) -> None:
        """Read the trials that are new on disk."""
        while True:
            try:
                new = self._disk.get_trial_id_from_study_id_trial_number(study_id, len(self._trials[study_id]))
            except KeyError:
                return
            self._remember(study_id, self._disk.get_trial(new))

    def _remember(self, study_id: int, trial: FrozenTrial) -> None:
        self._place[trial._trial_id] = (study_id, len(self._trials[study_id]))
        self._trials[study_id].append(trial)

    def _altered(self, trial_id: int) -> FrozenTrial:
        """Put a copy in a trial's place, to be changed: what readers were given stays as it was."""
        study_id, number = self._place[trial_id]
        trial = copied(self._trials[study_id][number])
        self.check_trial_is_updatable(trial_id, trial.state)
        self._trials[study_id][number] = trial
        return trial


def copied(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial that can be changed without changing this one."""
    found = copy.copy(trial)
    for name in ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values"):
        setattr(found, name, dict(getattr(trial, name)))
    return found
