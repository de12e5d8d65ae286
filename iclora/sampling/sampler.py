"""Sampler of a base model: captions to images.

Models are loaded on first use, text encoders before the transformer. The text encoders are freed
once every caption is encoded, so T5 and a 12-billion-parameter transformer never share a GPU.
Encoded text is cached on disk, one file per caption, so lists of captions of any length fit.

Every image has its own generator and is computed independently, so it is the same alone or in a
batch, up to the rounding of batched matrix products.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from iclora.models.families import Family, GivenTokens, Grid, Text, load_family, nothing_given
from iclora.models.loaded import cached_model
from iclora.models.locate import locate
from iclora.sampling.denoise import Prompt, denoise
from iclora.sampling.render_records import RenderRequest, RenderSettings
from schemas.layout import Layout

log = logging.getLogger(__name__)

# B batch, N tokens, C token values, H W canvas height and width in pixels
TEXT_BATCH = 8
"""Captions per forward pass of the text encoders."""


class Sampler:
    """Sampler of one base model.

    Attributes:
        label: base model and revision, without local paths.
        family: driver of the model's family.
        transformer: loaded on first use; adapters are applied to it.
    """

    def __init__(
        self, model: str, family: str, *, weights: str = "", precision: str = "auto"
    ) -> None:
        located = locate(model)
        name = Path(model).name if Path(model).is_dir() else model
        self.label = f"{name}@{located.revision}"
        self.family: Family = load_family(family)
        self._folder = located.folder
        self._weights = weights
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if precision == "auto":
            precision = "bf16" if self._device.type == "cuda" else "fp32"
        self._dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        self._text_folder = tempfile.TemporaryDirectory(prefix="iclora-text-")
        self._transformer: Any = None
        self._vae: Any = None

    @property
    def transformer(self) -> Any:
        """Frozen transformer."""
        if self._transformer is None:
            self._transformer = self.family.load_transformer(
                self._folder, dtype=self._dtype, device=self._device, weights=self._weights
            )
        return self._transformer

    @property
    def vae(self) -> Any:
        """Frozen VAE; float32 on CPU."""
        if self._vae is None:
            self._vae = self.family.load_vae(self._folder, dtype=self._dtype, device=self._device)
        return self._vae

    def encode_captions(self, captions: Sequence[str]) -> None:
        """Encodes new captions, then frees the text encoders."""
        new = [text for text in dict.fromkeys(captions) if not self._text_file(text).exists()]
        if not new:
            return
        crowded = self._device.type == "cuda" and self._transformer is not None
        if crowded:
            self.transformer.to("cpu")
        encoders = self.family.load_text(self._folder, dtype=self._dtype, device=self._device)
        for start in range(0, len(new), TEXT_BATCH):
            batch = new[start : start + TEXT_BATCH]
            text = self.family.encode_text(encoders, batch)
            for row, caption in enumerate(batch):
                tensors = {name: value[row].cpu().clone() for name, value in text.items()}
                save_file(tensors, self._text_file(caption))
        del encoders
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if crowded:
            self.transformer.to(self._device)

    def _text_file(self, caption: str) -> Path:
        name = hashlib.sha256(caption.encode()).hexdigest()
        return Path(self._text_folder.name) / f"{name}.safetensors"

    def _text(self, captions: Sequence[str]) -> Text:
        rows = [load_file(self._text_file(caption)) for caption in captions]
        names = rows[0].keys()
        return {name: torch.stack([row[name] for row in rows]).to(self._device) for name in names}

    @torch.inference_mode()
    def render(
        self, requests: Sequence[RenderRequest], settings: RenderSettings
    ) -> list[Image.Image]:
        """Renders a batch; all requests give the same panels (indices, not images).

        Args:
            requests: captions already passed to ``encode_captions``, seeds, and given panels.
            settings: layout and parameters.

        Returns:
            One canvas per request, RGB; given panels are not yet pasted.
        """
        grid = self.grid(settings.layout)
        return [self._picture(row, grid) for row in self.tokens(requests, settings)]

    @torch.inference_mode()
    def tokens(self, requests: Sequence[RenderRequest], settings: RenderSettings) -> Tensor:
        """Samples the tokens of a batch before decoding, ``[B, N, C]``; see ``render``."""
        assert len({tuple(request.given) for request in requests}) == 1, (
            "a batch gives the same panels"
        )
        noise = torch.stack([self._noise(request, settings.layout) for request in requests]).to(
            self._device
        )
        given = self._given(requests, settings) if requests[0].given else None
        return self._denoise(noise, [request.caption for request in requests], settings, given)

    def grid(self, layout: Layout) -> Grid:
        """Returns a layout's canvas size in tokens."""
        side = self.family.token_pixels(self._folder)
        return Grid(layout.height // side, layout.width // side)

    def _noise(self, request: RenderRequest, layout: Layout) -> Tensor:
        """Returns noise ``[N, C]`` from caption, seed, and size alone, generated on the CPU."""
        generator = torch.Generator().manual_seed(noise_seed(request.caption, request.seed, layout))
        shape = (self.grid(layout).count, self.family.token_channels(self.transformer))
        return torch.randn(shape, generator=generator)

    def _denoise(
        self,
        noise: Tensor,
        captions: Sequence[str],
        settings: RenderSettings,
        given: GivenTokens | None,
    ) -> Tensor:
        """Denoises with Euler steps along the predicted velocity."""
        params = settings.params
        held = math.ceil(params.strength * params.steps)
        condition = given if settings.clean else None
        if condition is None and self.family.needs_blank:
            condition = nothing_given(noise, self._blank(settings.layout))

        def put_back(x: Tensor, step: int, sigma: float) -> Tensor:
            if given is None or settings.clean or step >= held:
                return x
            noised = (1 - sigma) * given.tokens + sigma * noise
            return torch.where(given.mask[..., None], noised, x)

        def predict(x: Tensor, t: Tensor, text: Text) -> Tensor:
            return self.family.predict(
                self.transformer,
                x,
                t,
                text,
                grid=self.grid(settings.layout),
                guidance=params.guidance,
                given=condition,
            ).float()

        null = self._text([""] * len(captions)) if params.true_cfg > 1 else None
        prompt = Prompt(self._text(captions), null, params.true_cfg)
        sigmas = self.family.sigmas(self._folder, params.steps, noise.shape[1])
        x = denoise(noise, sigmas, prompt, predict, before=put_back)
        if given is not None and (settings.clean or held == params.steps):
            x = torch.where(given.mask[..., None], given.tokens, x)
        return x

    def _given(self, requests: Sequence[RenderRequest], settings: RenderSettings) -> GivenTokens:
        """Encodes the given panels as tokens with their mask."""
        layout = settings.layout
        rows = [self._given_tokens(request, layout) for request in requests]
        mask = self._mask(list(requests[0].given), layout)
        return GivenTokens(
            tokens=torch.stack(rows),
            mask=mask.expand(len(requests), -1).to(self._device),
            blank=self._blank(layout) if self.family.needs_blank else None,
        )

    def _blank(self, layout: Layout) -> Tensor:
        """Encodes an empty canvas, ``[1, N, C]``."""
        empty = torch.zeros(1, 3, layout.height, layout.width)
        return self.family.encode_images(self.vae, empty).mean.to(self._device)

    def _given_tokens(self, request: RenderRequest, layout: Layout) -> Tensor:
        """Encodes each given panel separately, ``[N, C]``; zero elsewhere.

        The VAE normalizes over the whole image, so a placeholder for the rest of the canvas would
        shift the colors of the given panels.
        """
        channels = self.family.token_channels(self.transformer)
        tokens = torch.zeros(self.grid(layout).count, channels, device=self._device)
        for index, picture in request.given.items():
            levels = np.asarray(picture, np.float32) / 127.5 - 1.0
            pixels = torch.from_numpy(levels).permute(2, 0, 1)[None]  # [1, 3, H, W] in -1..1
            encoded = self.family.encode_images(self.vae, pixels).mean[0]
            mask = self._mask([index], layout)[0].to(self._device)
            tokens[mask] = encoded.to(tokens)
        return tokens

    def _mask(self, panels: Sequence[int], layout: Layout) -> Tensor:
        """Returns ``[1, N]`` bool: true for the tokens of these panels."""
        grid = self.grid(layout)
        side = layout.height // grid.rows
        mask = torch.zeros(grid.rows, grid.columns, dtype=torch.bool)
        for panel in panels:
            x0, y0, x1, y1 = (edge // side for edge in layout.boxes[panel])
            mask[y0:y1, x0:x1] = True
        return mask.reshape(1, -1)

    def _picture(self, tokens: Tensor, grid: Grid) -> Image.Image:
        """Decodes one canvas at a time, so that a batch needs the memory of one image."""
        pixels = self.family.decode(self.vae, tokens[None], grid)[0]
        levels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


@cached_model(1)
def load_sampler(model: str, family: str, weights: str = "", precision: str = "auto") -> Sampler:
    """Returns the sampler of a base model; one stays loaded.

    Raises:
        MissingModel: the base is not on this machine.
        BadConfig: no family has that name.
    """
    return Sampler(model, family, weights=weights, precision=precision)


def noise_seed(caption: str, seed: int, layout: Layout) -> int:
    """Computes a generator's seed (63 bits) from caption, seed, and layout."""
    text = f"{seed}\n{layout.width}x{layout.height}\n{caption}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
