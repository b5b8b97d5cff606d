"""The half of an Optuna storage that is about studies: handed on to the storage on disk as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.storages import BaseStorage

if TYPE_CHECKING:
    from optuna.study import StudyDirection


class StudyCalls(BaseStorage):
    """Hands every call about studies on; what becomes of trials is up to the subclass.

    Args:
        disk: The storage that keeps everything.
    """

    def __init__(self, disk: BaseStorage) -> None:
        self._disk = disk

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Make a study and return its id."""
        return self._disk.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Delete a study with its trials."""
        self._disk.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Write an attribute of a study."""
        self._disk.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Write an attribute of Optuna's own."""
        self._disk.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id."""
        return self._disk.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name."""
        return self._disk.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return whether each objective goes up or down."""
        return self._disk.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of a study."""
        return self._disk.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of Optuna's own."""
        return self._disk.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[Any]:
        """Return all studies."""
        return self._disk.get_all_studies()

    def remove_session(self) -> None:
        """Close this thread's connection."""
        self._disk.remove_session()
