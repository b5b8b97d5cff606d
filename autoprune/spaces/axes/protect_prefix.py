"""``protect_prefix``: how many tokens at the front never leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autoprune._registry import AXES
from autoprune.policy import PruningPolicy


class ProtectPrefix:
    """Searches ``protect.prefix``, such as for texts whose title stands in front."""

    def check(self, value: Any) -> None:
        """Take whole numbers from 0."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"protect_prefix must be a whole number from 0, not {value!r}")

    def apply(self, policy: PruningPolicy, value: Any) -> PruningPolicy:
        """Return the policy with another prefix; one without stages protects nothing."""
        if not policy.stages:
            return policy
        return replace(policy, protect=replace(policy.protect, prefix=int(value)))


AXES.register("protect_prefix")(ProtectPrefix())
