"""The miniature FLUX: a FluxPipeline folder with the components and conventions of FLUX.1-dev."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from iclora.miniature.saving import save_half
from iclora.miniature.sizes import FamilySize, FluxSize
from iclora.miniature.tokenizer import build_tokenizer, framing_ids, vocabulary_size

PACK = 2
"""Side of a token in latent pixels."""


def build_flux(size: FamilySize) -> FluxPipeline:
    """Builds a pipeline with random weights from torch's global generator."""
    parts: dict[str, Any] = {
        "scheduler": flux_scheduler(),
        "vae": build_vae(size.flux),
        "text_encoder": _clip_text(size),
        "tokenizer": build_tokenizer("both", context=size.context),
        "text_encoder_2": _t5(size),
        "tokenizer_2": build_tokenizer("end", context=size.context),
        "transformer": _transformer(size.flux),
    }
    return FluxPipeline(**parts)


def save_flux(pipeline: FluxPipeline, folder: Path) -> None:
    """Writes all files that ``FluxPipeline.from_pretrained`` reads, with weights in bfloat16."""
    for part in (pipeline.vae, pipeline.transformer):
        torch.nn.Module.to(part, torch.bfloat16)  # diffusers' own ``to`` warns about absent layers
    pipeline.save_pretrained(folder, safe_serialization=True)
    for part in ("text_encoder", "text_encoder_2"):
        save_half(getattr(pipeline, part), folder / part)


def flux_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Builds the scheduler of FLUX.1-dev, which shifts to more noise for larger pictures."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def build_vae(size: FluxSize) -> AutoencoderKL:
    """Builds an autoencoder with a downscaling factor of 4; a token covers 8 x 8 pixels."""
    stages = len(size.vae_channels)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * stages,
        "up_block_types": ("UpDecoderBlock2D",) * stages,
        "block_out_channels": size.vae_channels,
    }
    return AutoencoderKL(
        **blocks,
        layers_per_block=1,
        latent_channels=size.latent_channels,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def _transformer(size: FluxSize) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=size.latent_channels * PACK * PACK,
        num_layers=size.double_blocks,
        num_single_layers=size.single_blocks,
        attention_head_dim=size.head_width,
        num_attention_heads=size.heads,
        joint_attention_dim=size.t5.width,
        pooled_projection_dim=size.clip.width,
        guidance_embeds=True,
        axes_dims_rope=size.rope_axes,
    )


def _clip_text(size: FamilySize) -> CLIPTextModel:
    tower = size.flux.clip
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size(),
            hidden_size=tower.width,
            intermediate_size=4 * tower.width,
            projection_dim=tower.width,
            num_hidden_layers=tower.layers,
            num_attention_heads=tower.heads,
            max_position_embeddings=size.context,
            **framing_ids(),
        )
    )


def _t5(size: FamilySize) -> T5EncoderModel:
    tower = size.flux.t5
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary_size(),
            d_model=tower.width,
            d_kv=tower.width // tower.heads,
            d_ff=3 * tower.width,
            num_layers=tower.layers,
            num_heads=tower.heads,
            feed_forward_proj="gated-gelu",
            **framing_ids(),
        )
    )
