"""The miniature VLM: LLaVA with a small CLIP tower and a small Llama.

Its chat template keeps the pictures and omits the prompt, because the model knows one task only:
describing a picture.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from iclora.miniature.saving import save_half
from iclora.miniature.sizes import FamilySize
from iclora.miniature.tokenizer import (
    IMAGE,
    START,
    build_tokenizer,
    framing_ids,
    token_id,
    vocabulary_size,
)

TEMPLATE = (
    "{% for message in messages %}{% if message['content'] is not string %}"
    "{% for piece in message['content'] %}{% if piece['type'] == 'image' %}"
    + IMAGE
    + "{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + START + "{% endif %}"
)


_OUTSIDE = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
"""Tensor names outside the blocks of a CLIP tower: transformers to open_clip."""

_INSIDE = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
"""Module names inside each block, except the three projections that open_clip fuses."""


def vlm_processor(size: FamilySize) -> LlavaProcessor:
    """Builds the processor of pictures and text."""
    images = CLIPImageProcessor(
        size={"shortest_edge": size.panel},
        crop_size={"height": size.panel, "width": size.panel},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_tokenizer("none", context=4 * size.context),
        patch_size=size.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )


def build_vlm(size: FamilySize) -> LlavaForConditionalGeneration:
    """Builds a VLM with random weights from torch's global generator."""
    vision = CLIPVisionConfig(
        hidden_size=size.clip_vision.width,
        intermediate_size=4 * size.clip_vision.width,
        num_hidden_layers=size.clip_vision.layers,
        num_attention_heads=size.clip_vision.heads,
        image_size=size.panel,
        patch_size=size.patch,
        projection_dim=size.clip_vision.width,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=vocabulary_size(),
        hidden_size=size.vlm_text.width,
        intermediate_size=3 * size.vlm_text.width,
        num_hidden_layers=size.vlm_text.layers,
        num_attention_heads=size.vlm_text.heads,
        num_key_value_heads=size.vlm_text.heads,
        max_position_embeddings=4 * size.context,
        **framing_ids(),
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=token_id(IMAGE),
        image_seq_length=(size.panel // size.patch) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.update(**framing_ids())
    return model


def look_through(model: LlavaForConditionalGeneration, visual: nn.Module) -> None:
    """Copies a trained CLIP's vision tower into a VLM, as LLaVA does.

    Args:
        model: Receives the weights.
        visual: Vision tower of an open_clip model of the same sizes.
    """
    weights = visual.state_dict()
    state = {ours: weights[theirs] for ours, theirs in _OUTSIDE.items()}
    blocks = sum(name.endswith(".ln_1.weight") for name in weights)
    for number in range(blocks):
        theirs = f"transformer.resblocks.{number}."
        ours = f"encoder.layers.{number}."
        for kind in ("weight", "bias"):
            for part, name in _INSIDE.items():
                state[f"{ours}{part}.{kind}"] = weights[f"{theirs}{name}.{kind}"]
            thirds = weights[f"{theirs}attn.in_proj_{kind}"].chunk(3)
            for letter, third in zip("qkv", thirds, strict=True):
                state[f"{ours}self_attn.{letter}_proj.{kind}"] = third
    model.model.vision_tower.load_state_dict(state)


def save_vlm(model: LlavaForConditionalGeneration, folder: Path, size: FamilySize) -> None:
    """Writes all files that AutoModelForImageTextToText and AutoProcessor read."""
    save_half(model, folder)
    vlm_processor(size).save_pretrained(folder)
