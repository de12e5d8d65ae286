"""FLUX.2 klein base 4B (Apache-2.0).

Source: diffusers' Flux2KleinPipeline. Captions pass through a chat template into Qwen3, and the
hidden states of three layers are concatenated. Latents are packed first and then normalized by
running statistics.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from iclora.errors import BadConfig
from iclora.models.families import Geometry, GivenTokens, Grid, Posterior, Text
from iclora.models.families.flux1 import (
    MAX_TEXT_TOKENS,
    architecture_of,
    freeze,
    load_weights,
    pack,
    position_ids,
    read_config,
    shifted_sigmas,
    text_length,
    unpack,
)

LAYERS = (9, 18, 27)
"""Hidden layers of Qwen3 4B to read; smaller encoders use a quarter, a half, and three quarters."""

QWEN3_LAYERS = 36


class Qwen3Encoder(NamedTuple):
    """Qwen3 and its tokenizer."""

    tokenizer: Any
    model: Any
    length: int


class Flux2Klein:
    """``Family`` implementation for FLUX.2 klein."""

    name = "flux2-klein"
    # Every linear of the blocks; the modulation is shared by all blocks and stays as it is.
    lora_targets = (
        r".*transformer_blocks\.\d+\.(.*\.)?"
        r"(to_q|to_k|to_v|to_out\.0|add_[qkv]_proj|to_add_out|linear_in|linear_out"
        r"|to_qkv_mlp_proj)"
        r"|single_transformer_blocks\.\d+\.attn\.to_out"
    )
    needs_blank = False
    pipeline = "Flux2KleinPipeline"
    released = Geometry(16, MAX_TEXT_TOKENS, 25, 3072, 3_875_544_576)

    def check(self, folder: Path, *, training_adapter: str = "") -> None:
        """Implements ``Family``; rejects other architectures and bare distilled klein."""
        kind = read_config(folder, "transformer").get("_class_name")
        if kind != "Flux2Transformer2DModel":
            raise BadConfig(
                f"{folder} holds a {kind}, not a FLUX.2 transformer; set base.family to its family"
            )
        index = folder / "model_index.json"
        pipeline = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
        if pipeline.get("is_distilled", False) and not training_adapter:
            raise BadConfig(
                f"{folder} is the distilled klein, which loses its few steps when it is trained "
                f"bare: use the base model, or name train.training_adapter"
            )

    def token_pixels(self, folder: Path) -> int:
        """Implements ``Family``; 16 for the released VAE."""
        return 2 ** len(read_config(folder, "vae")["block_out_channels"])

    def text_length(self, folder: Path) -> int:
        """Implements ``Family``."""
        return text_length(folder / "tokenizer")

    def load_text(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Qwen3Encoder:
        """Implements ``Family``."""
        from transformers import AutoTokenizer, Qwen3ForCausalLM

        model = Qwen3ForCausalLM.from_pretrained(folder, subfolder="text_encoder", dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder, subfolder="tokenizer")
        return Qwen3Encoder(tokenizer, freeze(model, device), text_length(folder / "tokenizer"))

    @torch.no_grad()
    def encode_text(self, encoders: Qwen3Encoder, captions: Sequence[str]) -> Text:
        """Implements ``Family``; ``embeds [B, L, 3D]``."""
        rows = encoders.tokenizer(
            [_as_chat(encoders.tokenizer, caption) for caption in captions],
            padding="max_length",
            max_length=encoders.length,
            truncation=True,
            return_tensors="pt",
        ).to(encoders.model.device)
        states = encoders.model(
            input_ids=rows.input_ids,
            attention_mask=rows.attention_mask,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        depth = len(states) - 1
        chosen = [states[layer * depth // QWEN3_LAYERS] for layer in LAYERS]
        return {"embeds": torch.cat(chosen, dim=2)}

    def fits_text_encoder(self, encoders: Qwen3Encoder, captions: Sequence[str]) -> list[bool]:
        """Implements ``Family``."""
        texts = [_as_chat(encoders.tokenizer, caption) for caption in captions]
        rows = encoders.tokenizer(texts, verbose=False).input_ids
        return [len(row) <= encoders.length for row in rows]

    def load_vae(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Any:
        """Implements ``Family``."""
        from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2

        vae = AutoencoderKLFlux2.from_pretrained(folder, subfolder="vae", torch_dtype=dtype)
        return freeze(vae, device)

    @torch.no_grad()
    def encode_images(self, vae: Any, pixels: Tensor) -> Posterior:
        """Implements ``Family``."""
        spread = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        mean, scale = _statistics(vae)
        return Posterior(
            (pack(spread.mean.float()) - mean) / scale, pack(spread.std.float()) / scale
        )

    @torch.no_grad()
    def decode(self, vae: Any, tokens: Tensor, grid: Grid) -> Tensor:
        """Implements ``Family``."""
        mean, scale = _statistics(vae)
        latents = unpack(tokens.float() * scale + mean, grid)
        return vae.decode(latents.to(vae.device, vae.dtype), return_dict=False)[0].float()

    def load_transformer(
        self,
        folder: Path,
        *,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        weights: str = "",
    ) -> Any:
        """Implements ``Family``."""
        from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

        return load_weights(Flux2Transformer2DModel, folder, dtype, device, weights)

    def architecture(self, folder: Path) -> tuple[int, int]:
        """Implements ``Family``."""
        return architecture_of(read_config(folder, "transformer"))

    def meta_transformer(self) -> Any:
        """Implements ``Family``; klein base 4B."""
        from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

        with torch.device("meta"):
            return Flux2Transformer2DModel(
                num_layers=5,
                num_single_layers=20,
                num_attention_heads=24,
                joint_attention_dim=7680,
                guidance_embeds=False,
            )

    def token_channels(self, transformer: Any) -> int:
        """Implements ``Family``."""
        return int(transformer.config.out_channels or transformer.config.in_channels)

    def predict(
        self,
        transformer: Any,
        tokens: Tensor,
        t: Tensor,
        text: Text,
        *,
        grid: Grid,
        guidance: float,
        given: GivenTokens | None = None,
    ) -> Tensor:
        """Implements ``Family``."""
        dtype = transformer.dtype
        if given is not None:
            tokens = torch.where(given.mask[..., None], given.tokens.to(tokens.dtype), tokens)
        embedded = transformer.config.guidance_embeds
        batch, length = text["embeds"].shape[:2]
        # The position in the caption is on the last axis, row and column on the two middle ones.
        text_ids = torch.zeros(batch, length, 4, device=tokens.device)  # [B, L, 4]
        text_ids[..., 3] = torch.arange(length, device=tokens.device)
        image_ids = torch.zeros(batch, grid.count, 4, device=tokens.device)  # [B, N, 4]
        image_ids[..., :3] = position_ids(grid, tokens.device)
        return transformer(
            hidden_states=tokens.to(dtype),
            timestep=t,
            guidance=torch.full_like(t, guidance) if embedded else None,
            encoder_hidden_states=text["embeds"].to(dtype),
            txt_ids=text_ids,
            img_ids=image_ids,
            return_dict=False,
        )[0]

    def sigmas(self, folder: Path, steps: int, tokens: int) -> list[float]:
        """Implements ``Family``; uses FLUX.2's empirical shift, by tokens and steps."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return shifted_sigmas(folder, steps, compute_empirical_mu(tokens, steps))


def _as_chat(tokenizer: Any, caption: str) -> str:
    return cast(
        "str",
        tokenizer.apply_chat_template(
            [{"role": "user", "content": caption}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        ),
    )


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Returns mean and deviation of every token value (packed: channel, row, column)."""
    mean = vae.bn.running_mean.float()
    deviation = (vae.bn.running_var.float() + vae.config.batch_norm_eps).sqrt()
    return mean, deviation


FAMILY = Flux2Klein()
