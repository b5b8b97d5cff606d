"""``attach``: make a model remove tokens; ``Handle.detach``: leave it as it was."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn
from transformers import PreTrainedModel

from autoprune.errors import PolicyError
from autoprune.policy import PruningPolicy
from autoprune.pruning.attention import claim
from autoprune.pruning.families import family_of
from autoprune.pruning.hooks import Engine
from autoprune.pruning.placed import Placed
from autoprune.pruning.plan import Plan, make_plan
from autoprune.pruning.protect import find_tokenizer, protected_ids, protecting
from autoprune.pruning.tables import TableSet
from autoprune.pruning.trace import Trace, recording

_ATTACHED: WeakKeyDictionary[nn.Module, ref[Handle]] = WeakKeyDictionary()


class Handle:
    """An attached policy. Also a context manager that detaches at the end.

    Attributes:
        policy: The policy.
        model: The model that carries it.
    """

    def __init__(self, model: PreTrainedModel, policy: PruningPolicy, engine: Engine) -> None:
        self.model = model
        self.policy = policy
        self._engine = engine
        self._release = claim(engine.core) if engine.plan.claims_attention else None
        self._attached = True
        engine.install()

    @property
    def plan(self) -> Plan:
        """The policy, made ready for the model."""
        return self._engine.plan

    def detach(self) -> None:
        """Leave the model as it was: same class, same state dict, no hooks. Doing it twice is fine."""
        if not self._attached:
            return
        self._attached = False
        self._engine.remove()
        if self._release is not None:
            self._release()
        _ATTACHED.pop(self._engine.core, None)

    def record(self) -> AbstractContextManager[Trace]:
        """Return a context manager; its value tells what the last forward inside it removed."""
        return recording()

    def protecting(self, mask: Tensor) -> AbstractContextManager[None]:
        """Return a context manager in which the tokens of ``mask`` (B, N) bool never leave."""
        return protecting(mask)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def attach(
    model: PreTrainedModel, policy: PruningPolicy, *, tokenizer: Any | None = None, tables: TableSet | None = None
) -> Handle:
    """Attach a policy to a model, in place.

    Compiled or exported (``torch.compile``, ``torch.export``) the model takes rows of one length: a graph cannot read
    how much of a row is padding, so it raises ``RuntimeError`` where anything is.

    Args:
        model: A model of a supported family, with any head.
        policy: What to remove.
        tokenizer: Names the special tokens and their strings. Left out, it is looked for in the model's own local
            folder; failing that, the configuration's ids are taken.
        tables: The tables that the policy refers to.

    Returns:
        A handle; ``handle.detach()`` leaves the model as it was.

    Raises:
        PolicyError: The policy does not fit the model, or a policy is attached already.
        UnsupportedModelError: The family, or a method on this family, cannot work; the message says why.
        ConfigError: The policy names an unknown scorer or reducer.
    """
    family = family_of(model)
    core = family.core(model)
    if attached_handle(model) is not None:
        raise PolicyError("A policy is attached to this model already.", "Call detach() on its handle first.")
    plan = make_plan(model, policy, family, tables)
    table = None
    if family.token_ids and policy.stages:
        table = protected_ids(model, policy, tokenizer or find_tokenizer(model))
    elif policy.protect.pattern is not None:
        raise PolicyError(f"protect.pattern needs tokens, and {family.name} has none.")
    handle = Handle(model, policy, Engine(model, plan, Placed(table, plan.tables, model.device)))
    _ATTACHED[core] = ref(handle)
    # The hooks hold the engine alone: the model keeps its handle alive.
    handle._engine.keeper = handle
    return handle


def attached_handle(model: PreTrainedModel) -> Handle | None:
    """Return the handle of the policy that is attached to a model, or None."""
    found = _ATTACHED.get(family_of(model).core(model))
    return None if found is None else found()
