"""Tiny random-weight models of every family, and inputs for them; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor
from transformers import PreTrainedModel

VOCABULARY = 120
N_LAYERS = 4
Inputs = dict[str, Tensor]
_TEXT = {"hidden_size": 32, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
_IDS = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 0}
_SPECIALS = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
_IMAGE = {**_TEXT, "image_size": 32, "patch_size": 8}
_SEQ = {"d_model": 32, "encoder_layers": N_LAYERS, "decoder_layers": 2, "encoder_attention_heads": 4}
_SEQ2 = {**_SEQ, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
_SOUND = {
    **_TEXT,
    "conv_dim": (16, 16),
    "conv_stride": (4, 2),
    "conv_kernel": (8, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": False,
    "vocab_size": 30,
    "classifier_proj_size": 16,
}


@dataclass(frozen=True)
class Tiny:
    """How to build a tiny model, or where to take a real one from (``testing.real``).

    Attributes:
        family: Name of the family.
        base: Class without a head.
        head: Class with the head that is tested besides, or None.
        config: Makes the configuration.
        kind: What its inputs are: ``text``, ``image``, ``sound``, ``mel``, ``prompt``.
        vocabulary: Rows of the token embedding.
        specials: Ids of special tokens.
        n_layers: Layers that are pruned, at least 4.
        lengths: Tokens per row of the suite's batch, special ones included.
        ready: Returns a model of its own for each call, with its head or without; None builds a random one.
        batch: Returns a padded batch of rows of these lengths; None makes random ones.
    """

    family: str
    base: str
    head: str | None
    config: Callable[[], Any]
    kind: str
    vocabulary: int = VOCABULARY
    specials: frozenset[int] = frozenset({0, 1, 2})
    n_layers: int = N_LAYERS
    lengths: tuple[int, ...] = (20, 13, 7)
    ready: Callable[[bool], PreTrainedModel] | None = None
    batch: Callable[[Sequence[int]], Inputs] | None = None


def _config(name: str, **values: Any) -> Callable[[], Any]:
    return lambda: getattr(hf, name)(**values)


def _ids(name: str, **values: Any) -> Callable[[], Any]:
    return _config(name, **{**_TEXT, **_IDS, **_SPECIALS, "num_labels": 3, **values})


TINY: tuple[Tiny, ...] = (
    Tiny("BERT", "BertModel", "BertForSequenceClassification", _ids("BertConfig"), "text"),
    Tiny("RoBERTa", "RobertaModel", "RobertaForSequenceClassification", _ids("RobertaConfig"), "text"),
    Tiny("XLM-R", "XLMRobertaModel", "XLMRobertaForSequenceClassification", _ids("XLMRobertaConfig"), "text"),
    Tiny("ELECTRA", "ElectraModel", "ElectraForSequenceClassification", _ids("ElectraConfig"), "text"),
    Tiny(
        "DistilBERT",
        "DistilBertModel",
        "DistilBertForSequenceClassification",
        _config(
            "DistilBertConfig", dim=32, n_layers=N_LAYERS, n_heads=4, hidden_dim=48, num_labels=3, **_IDS, **_SPECIALS
        ),
        "text",
    ),
    Tiny("ALBERT", "AlbertModel", "AlbertForSequenceClassification", _ids("AlbertConfig", embedding_size=16), "text"),
    Tiny(
        "ModernBERT",
        "ModernBertModel",
        "ModernBertForSequenceClassification",
        _ids("ModernBertConfig", global_attn_every_n_layers=2, local_attention=8, classifier_pooling="cls"),
        "text",
    ),
    Tiny(
        "DeBERTa-v2",
        "DebertaV2Model",
        "DebertaV2ForSequenceClassification",
        _ids(
            "DebertaV2Config",
            relative_attention=True,
            position_buckets=8,
            norm_rel_ebd="layer_norm",
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            type_vocab_size=0,
            share_att_key=True,
        ),
        "text",
    ),
    Tiny("ViT", "ViTModel", "ViTForImageClassification", _config("ViTConfig", **_IMAGE, num_labels=3), "image"),
    Tiny("DeiT", "DeiTModel", "DeiTForImageClassification", _config("DeiTConfig", **_IMAGE, num_labels=3), "image"),
    Tiny(
        "DINOv2",
        "Dinov2Model",
        "Dinov2ForImageClassification",
        _config("Dinov2Config", **_IMAGE, num_labels=3),
        "image",
    ),
    Tiny("CLIP text", "CLIPTextModel", None, _config("CLIPTextConfig", **_TEXT, **{**_IDS, **_SPECIALS}), "text"),
    Tiny("CLIP vision", "CLIPVisionModel", None, _config("CLIPVisionConfig", **_IMAGE), "image"),
    Tiny("wav2vec2", "Wav2Vec2Model", "Wav2Vec2ForCTC", _config("Wav2Vec2Config", **_SOUND), "sound"),
    Tiny("HuBERT", "HubertModel", "HubertForCTC", _config("HubertConfig", **_SOUND), "sound"),
    Tiny(
        "Whisper encoder",
        "WhisperModel",
        None,
        _config(
            "WhisperConfig",
            **_SEQ2,
            num_mel_bins=8,
            max_source_positions=20,
            vocab_size=VOCABULARY,
            max_target_positions=16,
            pad_token_id=0,
            decoder_start_token_id=1,
            bos_token_id=1,
            eos_token_id=2,
        ),
        "mel",
    ),
    Tiny(
        "BART encoder",
        "BartModel",
        None,
        _config("BartConfig", **_SEQ2, **_IDS, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2),
        "text",
    ),
    Tiny(
        "T5 encoder",
        "T5EncoderModel",
        None,
        _config(
            "T5Config",
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=N_LAYERS,
            num_heads=4,
            vocab_size=VOCABULARY,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=16,
            eos_token_id=2,
            pad_token_id=0,
        ),
        "text",
    ),
    Tiny("Llama", "LlamaModel", "LlamaForCausalLM", _ids("LlamaConfig", num_key_value_heads=2), "prompt"),
    Tiny("Qwen2", "Qwen2Model", "Qwen2ForCausalLM", _ids("Qwen2Config", num_key_value_heads=2), "prompt"),
    Tiny("Qwen3", "Qwen3Model", "Qwen3ForCausalLM", _ids("Qwen3Config", num_key_value_heads=2, head_dim=8), "prompt"),
)


def tiny(family: str) -> Tiny:
    """Return the recipe for a family."""
    return next(recipe for recipe in TINY if recipe.family == family)


def build(recipe: Tiny, *, head: bool = False, seed: int = 0, attention: str | None = None) -> PreTrainedModel:
    """Return the recipe's model in evaluation mode; a tiny one unless it is a real one's.

    Weights of layer norms are randomised too: fresh ones would make all hidden norms equal.

    Args:
        recipe: The recipe.
        head: Whether the class with a head is built.
        seed: Seed of the weights.
        attention: ``sdpa`` or ``eager``; left out, the family's default.
    """
    if recipe.ready is not None:
        return recipe.ready(head)
    name = recipe.head if head and recipe.head else recipe.base
    config = recipe.config()
    if attention is not None:
        config._attn_implementation = attention
    model: PreTrainedModel = getattr(hf, name)(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.dim() == 1 and float(parameter.mean()) > 0.5 else 0.2 * noise)
    model.train(False)
    return model


def inputs(recipe: Tiny, lengths: Sequence[int] = (20, 13, 7), seed: int = 0) -> Inputs:
    """Return a padded batch; images and spectrograms are all of one size.

    Args:
        recipe: The recipe.
        lengths: Real tokens per row, special ones included (a sound's samples are 10 times as many).
        seed: Seed of the content.
    """
    if recipe.batch is not None:
        return recipe.batch(lengths)
    generator = torch.Generator().manual_seed(seed)
    rows = len(lengths)
    if recipe.kind == "image":
        return {"pixel_values": torch.randn(rows, 3, 32, 32, generator=generator)}
    if recipe.kind == "mel":
        return {
            "input_features": torch.randn(rows, 8, 40, generator=generator),
            "decoder_input_ids": torch.randint(3, VOCABULARY, (rows, 5), generator=generator),
        }
    if recipe.kind == "sound":
        return _sound(lengths, generator)
    return _text(lengths, generator, left=recipe.kind == "prompt")


def _text(lengths: Sequence[int], generator: torch.Generator, *, left: bool) -> Inputs:
    width = max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        body = torch.randint(3, VOCABULARY - 1, (length - 2,), generator=generator)
        where = slice(width - length, width) if left else slice(0, length)
        ids[row, where] = torch.cat((torch.tensor([1]), body, torch.tensor([2])))
        mask[row, where] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _sound(lengths: Sequence[int], generator: torch.Generator) -> Inputs:
    samples = [10 * length for length in lengths]
    values = torch.zeros(len(samples), max(samples))
    mask = torch.zeros(len(samples), max(samples), dtype=torch.long)
    for row, length in enumerate(samples):
        values[row, :length] = torch.randn(length, generator=generator)
        mask[row, :length] = 1
    return {"input_values": values, "attention_mask": mask}


def one_row(recipe: Tiny, batch: Inputs, row: int) -> Inputs:
    """Return one row of a batch without its padding."""
    mask = batch.get("attention_mask")
    if mask is None:
        return {name: tensor[row : row + 1] for name, tensor in batch.items()}
    real = mask[row].bool()
    return {name: tensor[row : row + 1, real] for name, tensor in batch.items()}
