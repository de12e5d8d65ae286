"""FLUX.1 [dev], Krea, and other models of that architecture, including the miniature.

Sources: diffusers' FluxPipeline for packing, scaling, position ids, and the resolution-dependent
shift; AI-Toolkit for the LoRA targets, which are all linear layers of the transformer blocks.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from iclora.errors import BadConfig
from iclora.models.families import Geometry, GivenTokens, Grid, Posterior, Text

# B batch, N tokens, C token values, H W picture height and width, L text tokens
MAX_TEXT_TOKENS = 512
"""Maximum T5 sequence length (FLUX.1's own limit); a tokenizer may set a lower one."""


class FluxTextEncoders(NamedTuple):
    """CLIP (one pooled vector per caption) and T5 (one vector per token)."""

    clip_tokenizer: Any
    clip: Any
    t5_tokenizer: Any
    t5: Any

    @property
    def length(self) -> int:
        """Returns the T5 sequence length after padding or truncation."""
        return min(MAX_TEXT_TOKENS, int(self.t5_tokenizer.model_max_length))


def text_length(tokenizer: Path) -> int:
    """Reads the maximum text length from a tokenizer's folder, capped at ``MAX_TEXT_TOKENS``."""
    file = tokenizer / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return min(MAX_TEXT_TOKENS, int(settings.get("model_max_length", MAX_TEXT_TOKENS)))


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """Reads a component's ``config.json`` (``scheduler_config.json`` for the scheduler).

    Raises:
        BadConfig: the folder has no such component.
    """
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    file = folder / part / name
    if not file.is_file():
        raise BadConfig(f"{folder} is not a diffusers pipeline: it has no {part}/{name}")
    return cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))


def architecture_of(config: dict[str, Any]) -> tuple[int, int]:
    """Returns the number of blocks and the width from a FLUX transformer's configuration."""
    blocks = int(config["num_layers"]) + int(config["num_single_layers"])
    return blocks, int(config["num_attention_heads"]) * int(config["attention_head_dim"])


def pack(latents_BCHW: Tensor) -> Tensor:  # noqa: N803 - the legend is above
    """Packs 2 x 2 latent pixels into one token: ``[B, C, H, W]`` to ``[B, HW/4, 4C]``."""
    b, c, h, w = latents_BCHW.shape
    blocks = latents_BCHW.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(b, (h // 2) * (w // 2), c * 4)


def unpack(tokens_BNC: Tensor, grid: Grid) -> Tensor:  # noqa: N803 - the legend is above
    """Inverts ``pack``."""
    b, _, c = tokens_BNC.shape
    blocks = tokens_BNC.view(b, grid.rows, grid.columns, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(b, c // 4, grid.rows * 2, grid.columns * 2)


def position_ids(grid: Grid, device: torch.device) -> Tensor:
    """Returns ``[N, 3]``: zero, row, and column of every token."""
    rows = torch.arange(grid.rows, device=device).repeat_interleave(grid.columns)
    columns = torch.arange(grid.columns, device=device).repeat(grid.rows)
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=1).float()


class Flux1:
    """``Family`` implementation for FLUX.1."""

    name = "flux1"
    # All 494 linears of FLUX.1's 57 blocks, the modulation's included.
    lora_targets = (
        r".*transformer_blocks\.\d+\.(.*\.)?"
        r"(to_q|to_k|to_v|to_out\.0|add_[qkv]_proj|to_add_out|net\.0\.proj|net\.2"
        r"|linear|proj_mlp|proj_out)"
    )
    needs_blank = False
    pipeline = "FluxPipeline"
    released = Geometry(16, MAX_TEXT_TOKENS, 57, 3072, 11_901_408_320)

    def check(self, folder: Path, *, training_adapter: str = "") -> None:
        """Implements ``Family``; rejects other architectures, FLUX.1 Fill, and bare schnell."""
        config = read_config(folder, "transformer")
        if config.get("_class_name") != "FluxTransformer2DModel":
            raise BadConfig(
                f"{folder} holds a {config.get('_class_name')}, not a FLUX.1 transformer; "
                f"set base.family to its family"
            )
        channels = int(config.get("in_channels", 64))
        out = int(config.get("out_channels") or channels)
        if not self.fits_channels(channels, out):
            right = "flux1-fill" if channels > out else "flux1"
            raise BadConfig(f"{folder} takes {channels} channels: set base.family = {right!r}")
        scheduler = read_config(folder, "scheduler")
        few_steps = not scheduler.get("use_dynamic_shifting", False)
        if not config.get("guidance_embeds", False) and few_steps and not training_adapter:
            raise BadConfig(
                f"{folder} looks like FLUX.1 schnell, which was distilled to few steps and loses "
                f"them when it is trained bare: name train.training_adapter or use FLUX.1 dev"
            )

    def fits_channels(self, channels: int, out: int) -> bool:
        """Checks input and output channels per token against this family's."""
        return channels == out

    def token_pixels(self, folder: Path) -> int:
        """Implements ``Family``; VAE stride times 2 for packing (16 for FLUX.1)."""
        return 2 ** len(read_config(folder, "vae")["block_out_channels"])

    def text_length(self, folder: Path) -> int:
        """Implements ``Family``."""
        return text_length(folder / "tokenizer_2")

    def load_text(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> FluxTextEncoders:
        """Implements ``Family``."""
        from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

        clip = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=dtype)
        t5 = T5EncoderModel.from_pretrained(folder, subfolder="text_encoder_2", dtype=dtype)
        return FluxTextEncoders(
            AutoTokenizer.from_pretrained(folder, subfolder="tokenizer"),
            freeze(clip, device),
            AutoTokenizer.from_pretrained(folder, subfolder="tokenizer_2"),
            freeze(t5, device),
        )

    @torch.no_grad()
    def encode_text(self, encoders: FluxTextEncoders, captions: Sequence[str]) -> Text:
        """Implements ``Family``.

        Returns ``embeds [B, L, D]`` of T5, padded and unmasked, and ``pooled [B, P]`` of CLIP.
        """
        ids = _tokenize(encoders.clip_tokenizer, captions, encoders.clip_tokenizer.model_max_length)
        pooled = encoders.clip(ids.to(encoders.clip.device)).pooler_output
        ids = _tokenize(encoders.t5_tokenizer, captions, encoders.length)
        embeds = encoders.t5(ids.to(encoders.t5.device))[0]
        return {"embeds": embeds, "pooled": pooled}

    def fits_text_encoder(self, encoders: FluxTextEncoders, captions: Sequence[str]) -> list[bool]:
        """Implements ``Family``; checks T5 only, since CLIP always truncates at 77 tokens."""
        rows = encoders.t5_tokenizer(list(captions), verbose=False).input_ids
        return [len(row) <= encoders.length for row in rows]

    def load_vae(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Any:
        """Implements ``Family``."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=dtype)
        return freeze(vae, device)

    @torch.no_grad()
    def encode_images(self, vae: Any, pixels: Tensor) -> Posterior:
        """Implements ``Family``; packing and affine scaling apply to mean and deviation."""
        spread = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        mean = (spread.mean.float() - vae.config.shift_factor) * vae.config.scaling_factor
        return Posterior(pack(mean), pack(spread.std.float() * vae.config.scaling_factor))

    @torch.no_grad()
    def decode(self, vae: Any, tokens: Tensor, grid: Grid) -> Tensor:
        """Implements ``Family``."""
        latents = unpack(tokens.float(), grid)
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
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
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

        return load_weights(FluxTransformer2DModel, folder, dtype, device, weights)

    def architecture(self, folder: Path) -> tuple[int, int]:
        """Implements ``Family``."""
        return architecture_of(read_config(folder, "transformer"))

    def meta_transformer(self) -> Any:
        """Implements ``Family``; FLUX.1 [dev] with 11.9 billion parameters."""
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

        with torch.device("meta"):
            return FluxTransformer2DModel(guidance_embeds=True)

    def token_channels(self, transformer: Any) -> int:
        """Implements ``Family``."""
        return int(transformer.config.out_channels or transformer.config.in_channels)

    def inputs(self, transformer: Any, tokens: Tensor, given: GivenTokens | None) -> Tensor:
        """Returns the transformer's input, with given tokens free of noise."""
        del transformer  # for FLUX.1 Fill, which asks how many values a mask has
        if given is None:
            return tokens
        return torch.where(given.mask[..., None], given.tokens.to(tokens.dtype), tokens)

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
        embedded = transformer.config.guidance_embeds
        return transformer(
            hidden_states=self.inputs(transformer, tokens, given).to(dtype),
            timestep=t,
            guidance=torch.full_like(t, guidance) if embedded else None,
            pooled_projections=text["pooled"].to(dtype),
            encoder_hidden_states=text["embeds"].to(dtype),
            txt_ids=torch.zeros(text["embeds"].shape[1], 3, device=tokens.device),
            img_ids=position_ids(grid, tokens.device),
            return_dict=False,
        )[0]

    def sigmas(self, folder: Path, steps: int, tokens: int) -> list[float]:
        """Implements ``Family``; even steps, shifted by token count if the model requires it."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        config = read_config(folder, "scheduler")
        shift = calculate_shift(
            tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return shifted_sigmas(folder, steps, shift)


def shifted_sigmas(folder: Path, steps: int, shift: float) -> list[float]:
    """Computes even noise levels from 1 to 1/steps, shifted by the scheduler, followed by 0.

    Args:
        folder: the pipeline's folder.
        steps: number of sampling steps.
        shift: mu; schedulers without dynamic shifting ignore it.
    """
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    even = torch.linspace(1.0, 1.0 / steps, steps).tolist()
    scheduler.set_timesteps(sigmas=even, mu=shift)
    return [float(sigma) for sigma in scheduler.sigmas]


def freeze(module: Any, device: torch.device | str) -> Any:
    """Moves a module to the device in evaluation mode, without gradients."""
    return module.to(device).eval().requires_grad_(False)


def load_weights(
    kind: Any, folder: Path, dtype: torch.dtype, device: torch.device | str, weights: str
) -> Any:
    """Loads a frozen transformer in one of the formats of ``Family.load_transformer``.

    Raises:
        BadConfig: ``nf4`` without bitsandbytes.
    """
    options: dict[str, Any] = {"subfolder": "transformer", "torch_dtype": dtype}
    if weights == "nf4":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise BadConfig("train.weights = 'nf4' needs bitsandbytes: pip install bitsandbytes")
        from diffusers.quantizers.quantization_config import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    model = kind.from_pretrained(folder, **options)
    if weights == "fp8":
        cast_to_fp8(model, dtype)
    return freeze(model, device)


def cast_to_fp8(model: Any, dtype: torch.dtype) -> None:
    """Stores the weights in 8 bits; each layer casts its own to ``dtype`` in the forward pass."""
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)


def _tokenize(tokenizer: Any, captions: Sequence[str], length: int) -> Tensor:
    rows = tokenizer(
        list(captions),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    return cast("Tensor", rows.input_ids)


FAMILY = Flux1()
