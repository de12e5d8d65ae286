"""The sizes of the trained miniature FLUX, and its parts put together.

A token covers 16 x 16 pixels (the autoencoder shrinks eight times, as FLUX.1's does): 16 tokens a
panel, a quarter of what shrinking four times would need.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from recipes.flux_text import WIDTH, TextEncoders
from recipes.vae import LATENTS

HEADS: Final = 6
HEAD_WIDTH: Final = 32
DOUBLE_BLOCKS: Final = 2
SINGLE_BLOCKS: Final = 4
ROPE_AXES: Final = (8, 12, 12)
SHIFT: Final = 1.0
"""Sampling's timesteps lean to noise: the logarithm of the shift, whatever the picture's size."""


def build_transformer() -> FluxTransformer2DModel:
    """A transformer with random weights, drawn from torch's global source."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=LATENTS * 4,
        num_layers=DOUBLE_BLOCKS,
        num_single_layers=SINGLE_BLOCKS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=ROPE_AXES,
    )


def assemble(
    vae: AutoencoderKL, encoders: TextEncoders, transformer: FluxTransformer2DModel
) -> FluxPipeline:
    """A pipeline of trained parts, its progress bar off."""
    parts: dict[str, Any] = {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1000,
            shift=1.0,
            use_dynamic_shifting=True,
            base_shift=SHIFT,
            max_shift=SHIFT,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
        "vae": vae,
        "text_encoder": encoders.clip,
        "tokenizer": encoders.clip_tokens,
        "text_encoder_2": encoders.t5,
        "tokenizer_2": encoders.t5_tokens,
        "transformer": transformer,
    }
    pipeline = FluxPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pack(latents: Tensor) -> Tensor:
    """Two by two latents become one token: [B, C, H, W] to [B, HW/4, 4C], as ``FluxPipeline``."""
    batch, channels, height, width = latents.shape
    blocks = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def position_ids(rows: int, columns: int) -> Tensor:
    """[rows * columns, 3]: zero, row and column of every token."""
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return torch.cat([torch.zeros(len(grid), 1), grid], dim=1)
