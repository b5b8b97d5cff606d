"""The table of architectures: where the layers are, what they receive, what is protected."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from autoprune.errors import UnsupportedModelError
from autoprune.pruning.family import Family, base_core

__all__ = ["FAMILIES", "Family", "family_of", "supported_families"]


def _encoder(model: PreTrainedModel) -> nn.Module:
    # Some classes hold the encoder itself, others hold it one level down.
    for owner in (model, model.base_model):
        found = getattr(owner, "encoder", None)
        if isinstance(found, nn.Module):
            return found
    return base_core(model)


def _speech_encoder(model: PreTrainedModel) -> nn.Module:
    # The encoder, not the model, receives the mask in frames.
    return model.base_model.get_submodule("encoder")


def _clip_text(model: PreTrainedModel) -> nn.Module:
    return getattr(model, "text_model", None) or base_core(model)


def _clip_vision(model: PreTrainedModel) -> nn.Module:
    return getattr(model, "vision_model", None) or base_core(model)


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
        "DistilBERT",
        "distilbert",
        "DistilBert",
        _CLASSIFY,
        _BERT,
        layer_path="transformer.layer",
        after_attention="sa_layer_norm",
        query="attention.q_lin",
        first_rows=("attention.out_lin", "sa_layer_norm"),
    ),
    _family(
        "ALBERT",
        "albert",
        "Albert",
        _CLASSIFY,
        _BERT,
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
        "DINOv2",
        "dinov2",
        "Dinov2",
        (),
        _VIT,
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
