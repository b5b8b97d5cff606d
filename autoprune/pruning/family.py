"""``Family``: what the engine must know about an architecture. The table itself is ``families.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from autoprune.errors import UnsupportedModelError


def base_core(model: PreTrainedModel) -> nn.Module:
    """Return the model without its head."""
    base: nn.Module = model.base_model
    return base


@dataclass(frozen=True)
class Family:
    """One row of the table. Module paths are relative to the core or to a layer.

    Attributes:
        name: For people and messages.
        model_types: ``config.model_type`` of the members.
        layer_path: The list of layers, from the core.
        core: Finds the module that takes the 2-D mask and runs the layers.
        token_ids: Whether the input is token ids.
        first_token: Whether there is a first token that collects the text (CLS).
        attention_hook: Whether the attention goes through transformers' attention interface.
        filters_ids: Whether ids can leave before the embedding, positions being passed explicitly.
        positions: How positions are counted: from 0, or as RoBERTa does.
        masks: What the layers' mask holds: padding alone, a window, causality, padding of both axes, or nothing.
        cached: Whether layers keep a cache of keys and values, so that each knows only what reached it.
        prefix: Tokens at the front that are protected whatever the policy says.
        rope: Keyword of the rotary embedding that layers receive, or None.
        after_attention: Module in a layer whose output is the whole state after attention, or None.
        query: Query projection in a layer (first-token shortcut), or None.
        first_rows: Modules in a layer whose inputs are cut to the first row by the shortcut.
        heads: Classes whose head reads the first token alone.
        shared: Whether one module serves several layers.
        short_heads: Classes in which what follows takes a short sequence, so that nothing is put back.
        relative: Per-layer inputs that hold one value per pair of tokens.
        bias_maker: Module in the core that makes the full per-pair input when no layer has yet, or None.
        note: What a user should know.
    """

    name: str
    model_types: tuple[str, ...]
    layer_path: str
    core: Callable[[PreTrainedModel], nn.Module] = base_core
    token_ids: bool = True
    first_token: bool = True
    attention_hook: bool = True
    filters_ids: bool = False
    positions: Literal["absolute", "roberta"] = "absolute"
    masks: Literal["padding", "window", "causal", "square", "none"] = "padding"
    cached: bool = False
    prefix: int = 0
    rope: str | None = None
    after_attention: str | None = None
    query: str | None = None
    first_rows: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    shared: bool = False
    short_heads: tuple[str, ...] = ()
    relative: tuple[str, ...] = ()
    bias_maker: str | None = None
    note: str = ""

    @property
    def supports_input_stage(self) -> bool:
        """Whether a stage may stand at the input."""
        return not self.cached

    @property
    def has_first_token(self) -> bool:
        """Whether there is a first token that collects the text (CLS)."""
        return self.first_token

    @property
    def has_attention_hook(self) -> bool:
        """Whether attention scorers can be used."""
        return self.attention_hook

    @property
    def searchable(self) -> bool:
        """Whether there is a task kind for its models: text encoders with a head for classes."""
        return self.token_ids and any(head.endswith("ForSequenceClassification") for head in self.heads)

    @property
    def summary(self) -> str:
        """One line for people."""
        facts = [
            "attention scorers" if self.attention_hook else "no attention scorers",
            "first token" if self.first_token else "no first token",
            "after_attention" if self.after_attention else "",
            self.note,
        ]
        return "; ".join(fact for fact in facts if fact)

    def layers(self, model: PreTrainedModel) -> list[nn.Module]:
        """Return the layer modules (each once)."""
        found = self.core(model).get_submodule(self.layer_path)
        return list(found.children())

    def n_layers(self, model: PreTrainedModel) -> int:
        """Return how many layers run in a forward pass."""
        if self.shared:
            return int(model.config.num_hidden_layers)
        return len(self.layers(model))

    def embeddings(self, model: PreTrainedModel) -> nn.Module:
        """Return the token embedding.

        Raises:
            UnsupportedModelError: The family has no token ids.
        """
        if not self.token_ids:
            raise UnsupportedModelError(f"The family {self.name} has no token ids, so it has no token embedding.")
        found: nn.Module = model.get_input_embeddings()
        return found

    def reads_first_token(self, model: PreTrainedModel) -> bool:
        """Whether the model's head reads the first token alone."""
        # ModernBERT's head reads the first token or the mean, as its configuration says.
        pooling = getattr(model.config, "classifier_pooling", "cls")
        return type(model).__name__ in self.heads and pooling == "cls"

    def restores(self, model: PreTrainedModel) -> bool:
        """Whether what follows the layers needs all positions."""
        return not (self.reads_first_token(model) or type(model).__name__ in self.short_heads)
