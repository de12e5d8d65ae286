"""Sample sheets during training: the base next to the adapter's moving average, at fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iclora.models.families import Text, nothing_given
from iclora.sampling.denoise import Prompt, denoise
from iclora.store import atomic_path
from iclora.training.dataloader import blank_path
from iclora.training.loss import autocast
from iclora.training.run_inputs import RunInputs, TrainingData, free_memory
from iclora.training.sampler import seed_of
from iclora.training.samples import SampleView
from iclora.training.train_step import StepContext

ROWS = 4
"""Maximum number of captions per sheet."""

_MAX_SIDE = 512
"""Maximum side of a render on a sheet, in pixels."""


def grid_captions(inputs: RunInputs, data: TrainingData) -> list[str]:
    """Selects up to ``ROWS`` captions: configured prompts, else val, else train captions."""
    items = data.val or [data.train[key] for key in sorted(data.train)]
    prompts = list(inputs.config.sample.prompts)
    return (prompts or [item.caption for item in items])[:ROWS]


class SampleGrid(NamedTuple):
    """Renderer of sample sheets with the transformer in training."""

    inputs: RunInputs
    context: StepContext
    """Model and processes of the run; all render if the base is sharded, and the first writes."""

    view: SampleView
    """Canvas to render: the largest in training."""

    captions: Sequence[str]

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Writes a sheet, one row per caption: the base, then the adapter's moving average."""
        transformer = self.context.transformer
        with self.context.optimizer.ema_weights():
            try:
                transformer.disable_adapters()
                base = [self._render(caption) for caption in self.captions]
            finally:
                transformer.enable_adapters()
            adapted = [self._render(caption) for caption in self.captions]
        if self.context.dist.is_main:
            self._write(path, base, adapted)

    def _render(self, caption: str) -> Tensor:
        """Denoises one canvas; the sampling seed and the caption determine the noise."""
        family, cache, grid = self.inputs.family, self.inputs.cache, self.view.grid
        params, precision = self.inputs.config.sample, self.inputs.config.train.precision
        transformer, device = self.context.transformer, self.context.dist.device
        channels = family.token_channels(transformer)
        generator = torch.Generator().manual_seed(seed_of("sheet", params.seed, caption))
        x = torch.randn(1, grid.count, channels, generator=generator).to(device)  # [1, N, C]
        given = None
        if family.needs_blank:
            blank = cache.posterior(blank_path(cache, self.view)).mean[None]
            given = nothing_given(x, blank.to(x))

        def predict(x: Tensor, t: Tensor, text: Text) -> Tensor:
            with autocast(precision, device):
                velocity = family.predict(
                    transformer, x, t, text, grid=grid, guidance=params.guidance, given=given
                )
            return velocity.float()

        def text_of(text: str) -> Text:
            parts = cache.load(cache.text_path(text))
            return {name: tensor.to(device) for name, tensor in parts.items()}

        null = text_of("") if params.true_cfg > 1 else None
        prompt = Prompt(text_of(caption), null, params.true_cfg)
        sigmas = family.sigmas(self.inputs.base.folder, params.steps, grid.count)
        return denoise(x, sigmas, prompt, predict)

    def _write(self, path: Path, *columns: Sequence[Tensor]) -> None:
        """Decodes and writes the sheet, loading the VAE only for this call."""
        inputs, transformer, dist = self.inputs, self.context.transformer, self.context.dist
        offloads = inputs.config.train.offload and not dist.is_sharded
        if offloads:
            transformer.to("cpu")
            free_memory()
        vae = inputs.family.load_vae(inputs.base.folder, dtype=inputs.dtype, device=dist.device)
        images = [
            [_image(inputs.family.decode(vae, tokens, self.view.grid)[0]) for tokens in column]
            for column in columns
        ]
        del vae
        free_memory()
        if offloads:
            transformer.to(dist.device)
        width, height = images[0][0].size
        sheet = Image.new("RGB", (width * len(columns), height * len(self.captions)))
        for x, column in enumerate(images):
            for y, image in enumerate(column):
                sheet.paste(image, (x * width, y * height))
        with atomic_path(path) as scratch:
            sheet.save(scratch, format="JPEG", quality=90)


def _image(pixels: Tensor) -> Image.Image:
    """Converts ``[3, H, W]`` in -1..1 to an image of limited size."""
    values = ((pixels.clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte()
    image = Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).cpu().numpy()))
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return image
