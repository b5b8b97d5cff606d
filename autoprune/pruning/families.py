"""The table of architectures: where the layers are, what they receive, what is protected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from autoprune.errors import UnsupportedModelError


def _base(model: PreTrainedModel) -> nn.Module:
    base: nn.Module = model.base_model
    return base


def _encoder(model: PreTrainedModel) -> nn.Module:
    # Some classes hold the encoder itself, others hold it one level down.
    for owner in (model, model.base_model):
        found = getattr(owner, "encoder", None)
        if isinstance(found, nn.Module):
            return found
    return _base(model)


def _speech_encoder(model: PreTrainedModel) -> nn.Module:
    # The encoder, not the model, receives the mask in frames.
    return model.base_model.get_submodule("encoder")


def _clip_text(model: PreTrainedModel) -> nn.Module:
    return getattr(model, "text_model", None) or _base(model)


def _clip_vision(model: PreTrainedModel) -> nn.Module:
    return getattr(model, "vision_model", None) or _base(model)


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
    core: Callable[[PreTrainedModel], nn.Module] = _base
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


_BERT: dict[str, Any] = {
    "layer_path": "encoder.layer",
    "filters_ids": True,
    "after_attention": "attention",
    "query": "attention.self.query",
    "first_rows": ("attention.output",),
}
_VIT: dict[str, Any] = {
    "layer_path": "layers",
    "token_ids": False,
    "query": "attention.q_proj",
    "first_rows": ("attention.o_proj", "layernorm_after"),
}
_SPEECH: dict[str, Any] = {
    "layer_path": "layers",
    "core": _speech_encoder,
    "token_ids": False,
    "first_token": False,
    "after_attention": "layer_norm",
    "note": "after_attention only without stable layer norm",
}
_DECODER: dict[str, Any] = {
    "layer_path": "layers",
    "first_token": False,
    "masks": "causal",
    "cached": True,
    "rope": "position_embeddings",
    "note": "prefill only; stages from layer 1 on; drop only; last token protected",
}
_CLASSIFY = ("SequenceClassification", "MultipleChoice")


def _family(name: str, types: str, classes: str, heads: tuple[str, ...], base: dict[str, Any], **more: Any) -> Family:
    names = tuple(f"{classes}For{head}" for head in heads)
    return Family(name=name, model_types=tuple(types.split()), heads=names, **{**base, **more})


FAMILIES: tuple[Family, ...] = (
    _family("BERT", "bert", "Bert", (*_CLASSIFY, "NextSentencePrediction"), _BERT),
    _family("RoBERTa", "roberta", "Roberta", _CLASSIFY, _BERT, positions="roberta"),
    _family("XLM-R", "xlm-roberta", "XLMRoberta", _CLASSIFY, _BERT, positions="roberta"),
    _family("ELECTRA", "electra", "Electra", ("SequenceClassification",), _BERT),
    _family(
        "DistilBERT", "distilbert", "DistilBert", _CLASSIFY, _BERT,
        layer_path="transformer.layer",
        after_attention="sa_layer_norm",
        query="attention.q_lin",
        first_rows=("attention.out_lin", "sa_layer_norm"),
    ),
    _family(
        "ALBERT", "albert", "Albert", _CLASSIFY, _BERT,
        layer_path="encoder.albert_layer_groups",
        after_attention="albert_layers.0.attention",
        query="albert_layers.0.attention.query",
        first_rows=("albert_layers.0.attention.dense", "albert_layers.0.attention.LayerNorm"),
        shared=True,
        note="one layer module serves all layers",
    ),
    Family(
        name="ModernBERT",
        model_types=("modernbert",),
        layer_path="layers",
        masks="window",
        rope="position_embeddings",
        first_rows=("attn.Wo", "mlp_norm"),
        heads=("ModernBertForSequenceClassification",),
        note="window masks and rotary angles gathered",
    ),
    Family(
        name="DeBERTa-v2",
        model_types=("deberta-v2",),
        layer_path="encoder.layer",
        attention_hook=False,
        masks="square",
        after_attention="attention",
        relative=("relative_pos",),
        heads=("DebertaV2ForSequenceClassification",),
        note="relative positions gathered per row, which grows with the batch",
    ),
    _family("ViT", "vit", "ViT", ("ImageClassification",), _VIT),
    _family("DeiT", "deit", "DeiT", ("ImageClassification",), _VIT, prefix=2, note="distillation token protected"),
    _family(
        "DINOv2", "dinov2", "Dinov2", (), _VIT,
        layer_path="encoder.layer",
        first_rows=(),
        note="the head reads all patches, so outputs are restored",
    ),
    Family(
        name="CLIP text",
        model_types=("clip_text_model",),
        layer_path="encoder.layers",
        core=_clip_text,
        first_token=False,
        masks="causal",
        note="causal: drop only; the pooled end token is protected",
    ),
    Family(
        name="CLIP vision",
        model_types=("clip_vision_model",),
        layer_path="encoder.layers",
        core=_clip_vision,
        token_ids=False,
    ),
    _family("wav2vec2", "wav2vec2", "Wav2Vec2", (), _SPEECH),
    _family("HuBERT", "hubert", "Hubert", (), _SPEECH),
    Family(
        name="Whisper encoder",
        model_types=("whisper",),
        layer_path="layers",
        core=_encoder,
        token_ids=False,
        first_token=False,
        masks="none",
        short_heads=("WhisperModel", "WhisperForConditionalGeneration"),
        note="the decoder reads the shortened output",
    ),
    Family(
        name="BART encoder",
        model_types=("bart",),
        layer_path="layers",
        core=_encoder,
        first_token=False,
        after_attention="self_attn_layer_norm",
        note="the decoder reads restored states",
    ),
    Family(
        name="T5 encoder",
        model_types=("t5", "mt5"),
        layer_path="block",
        core=_encoder,
        first_token=False,
        after_attention="layer.0",
        relative=("position_bias",),
        bias_maker="block.0.layer.0.SelfAttention",
        note="position bias gathered; the decoder reads restored states",
    ),
    _family("Llama", "llama", "Llama", (), _DECODER),
    _family("Qwen2", "qwen2", "Qwen2", (), _DECODER),
    _family("Qwen3", "qwen3", "Qwen3", (), _DECODER),
)

_REASONS = {
    "swin": "its shifted windows need the whole grid of patches",
    "swinv2": "its shifted windows need the whole grid of patches",
    "beit": "its relative position bias is tied to the whole grid of patches",
    "clip": "it holds two towers; attach to model.text_model and model.vision_model instead",
    "mpnet": "its layers give no access to attention and share a position bias of their own",
    "gpt2": "its layers take cache and positions in an order of their own",
}


def supported_families() -> str:
    """Return the names of all families, for messages."""
    return ", ".join(family.name for family in FAMILIES)


def family_of(model_or_config: PreTrainedModel | PreTrainedConfig) -> Family:
    """Return the row of the table for a model or its configuration.

    Raises:
        UnsupportedModelError: The architecture is not in the table, or cannot work; the message says why.
    """
    config = getattr(model_or_config, "config", model_or_config)
    model_type = str(getattr(config, "model_type", type(model_or_config).__name__))
    for family in FAMILIES:
        if model_type in family.model_types:
            _check_config(family, config)
            return family
    reason = _REASONS.get(model_type, "its layers are not described in the table of architectures")
    raise UnsupportedModelError(
        f"Models of type {model_type!r} cannot be pruned: {reason}.", f"Supported families: {supported_families()}."
    )


def _check_config(family: Family, config: Any) -> None:
    """Refuse configurations of a known family that cannot work."""
    reason = ""
    if getattr(config, "is_decoder", False) and family.masks != "causal":
        reason = "it is configured as a decoder"
    elif family.shared and int(getattr(config, "inner_group_num", 1)) != 1:
        reason = "its layer groups hold more than one layer"
    elif family.cached and any("sliding" in str(kind) for kind in getattr(config, "layer_types", None) or ()):
        reason = "its sliding-window layers keep caches of a fixed size"
    if reason:
        raise UnsupportedModelError(
            f"This {family.name} model cannot be pruned: {reason}.", f"Supported families: {supported_families()}."
        )
