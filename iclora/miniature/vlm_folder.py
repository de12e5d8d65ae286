"""The miniature VLM: a stock LLaVA of a small CLIP tower and a small Llama.

Its chat template passes on the pictures and leaves out what is asked: the model knows one task, to
describe a picture, and would only be confused by instructions it never saw.
"""

from __future__ import annotations

from pathlib import Path

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


def vlm_processor(size: FamilySize) -> LlavaProcessor:
    """Turns pictures into tokens and pixels, and tokens back into text."""
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
    """A VLM with random weights, drawn from torch's global source."""
    vision = CLIPVisionConfig(
        hidden_size=size.vlm_vision.width,
        intermediate_size=4 * size.vlm_vision.width,
        num_hidden_layers=size.vlm_vision.layers,
        num_attention_heads=size.vlm_vision.heads,
        image_size=size.panel,
        patch_size=size.patch,
        projection_dim=size.vlm_vision.width,
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


def save_vlm(model: LlavaForConditionalGeneration, folder: Path, size: FamilySize) -> None:
    """Writes everything that AutoModelForImageTextToText and AutoProcessor read."""
    save_half(model, folder)
    vlm_processor(size).save_pretrained(folder)
