"""FLUX.1 Fill [dev]: FLUX.1 with a masked image and its mask as extra input channels.

Given panels enter through these condition channels, so the sampled tokens stay noisy everywhere.
The masked image is composed of tokens: those of the given panels, and those of an empty canvas
elsewhere. diffusers encodes the masked image itself. The difference is limited to the tokens along
a seam, and the cache needs no entry per subset of panels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iclora.models.families import Geometry, GivenTokens
from iclora.models.families.flux1 import MAX_TEXT_TOKENS, Flux1

MASK_VALUES = 256
"""Mask values per token: a token of the released model covers 16 x 16 pixels."""


class Flux1Fill(Flux1):
    """``Family`` implementation for FLUX.1 Fill."""

    name = "flux1-fill"
    pipeline = "FluxFillPipeline"
    needs_blank = True
    released = Geometry(16, MAX_TEXT_TOKENS, 57, 3072, 11_902_391_360)

    def fits_channels(self, channels: int, out: int) -> bool:
        """Implements ``Flux1``; the input is the image tokens twice, plus a mask."""
        return channels > 2 * out

    def meta_transformer(self) -> Any:
        """Implements ``Family``; FLUX.1 Fill [dev]."""
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

        with torch.device("meta"):
            return FluxTransformer2DModel(
                in_channels=64 + 64 + MASK_VALUES, out_channels=64, guidance_embeds=True
            )

    def inputs(self, transformer: Any, tokens: Tensor, given: GivenTokens | None) -> Tensor:
        """Concatenates noisy tokens, masked image, and mask (1 marks a hole)."""
        assert given is not None, "FLUX.1 Fill needs to know what is given, if only nothing"
        assert given.blank is not None, "FLUX.1 Fill needs the tokens of an empty canvas"
        clean, blank = given.tokens.to(tokens.dtype), given.blank.to(tokens.dtype)
        holed = torch.where(given.mask[..., None], clean, blank.expand_as(clean))
        values = transformer.config.in_channels - tokens.shape[2] - holed.shape[2]
        holes = (~given.mask)[..., None].to(tokens.dtype).expand(-1, -1, values)
        return torch.cat([tokens, holed, holes], dim=2)


FAMILY = Flux1Fill()
