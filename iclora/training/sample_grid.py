"""Sample sheets during training: the base next to the adapter's moving average, at fixed seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iclora.models.families import GivenTokens, Text, nothing_given
from iclora.sampling.denoise import Prompt, denoise
from iclora.store import atomic_path
from iclora.training.dataloader import blank_path
from iclora.training.distributed import DistEnv
from iclora.training.latent_cache import EncodingCache
from iclora.training.loss import autocast
from iclora.training.run_inputs import RunInputs, free_memory
from iclora.training.sampler import seed_of
from iclora.training.samples import SampleView, TrainingItem

ROWS = 4
"""Maximum number of captions per sheet."""

_MAX_SIDE = 512
"""Maximum side of a render on a sheet, in pixels."""


def grid_captions(
    inputs: RunInputs, train: Mapping[str, TrainingItem], val: Sequence[TrainingItem]
) -> list[str]:
    """Selects up to ``ROWS`` captions: configured prompts, else val, else train captions."""
    given = list(inputs.config.sample.prompts)
    items = val or [train[key] for key in sorted(train)]
    return (given or [item.caption for item in items])[:ROWS]


class SampleGrid(NamedTuple):
    """Renderer of sample sheets with the transformer in training."""

    job: RunInputs
    cache: EncodingCache
    transformer: Any
    view: SampleView
    """Canvas to render: the largest in training."""

    captions: Sequence[str]
    dist: DistEnv
    """Processes of the run; all render if the base is sharded, and only the first writes."""

    @property
    def device(self) -> torch.device:
        """Device of the transformer."""
        return self.dist.device

    @torch.no_grad()
    def draw(self, path: Path, weights: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
        """Writes a sheet, one row per caption: the base, then ``weights`` swapped into ``live``."""
        before = {name: tensor.detach().clone() for name, tensor in live.items()}
        try:
            for name, tensor in live.items():
                tensor.data.copy_(weights[name])
            self.transformer.disable_adapters()
            bare = [self._tokens(caption) for caption in self.captions]
            self.transformer.enable_adapters()
            adapted = [self._tokens(caption) for caption in self.captions]
        finally:
            self.transformer.enable_adapters()
            for name, tensor in live.items():
                tensor.data.copy_(before[name])
        if self.dist.is_main:
            self._write(path, bare, adapted)

    def _tokens(self, caption: str) -> Tensor:
        """Denoises one canvas; the sampling seed and the caption determine the noise."""
        inputs, grid, params = self.job, self.view.grid, self.job.config.sample
        channels = inputs.family.token_channels(self.transformer)
        generator = torch.Generator().manual_seed(seed_of("sheet", params.seed, caption))
        x = torch.randn(1, grid.count, channels, generator=generator).to(self.device)
        given = self._nothing_given(x)

        def predict(x: Tensor, t: Tensor, text: Text) -> Tensor:
            with autocast(inputs.config.train.precision, self.device):
                return inputs.family.predict(
                    self.transformer,
                    x,
                    t,
                    text,
                    grid=grid,
                    guidance=params.guidance,
                    given=given,
                ).float()

        null = self._text("") if params.true_cfg > 1 else None
        prompt = Prompt(self._text(caption), null, params.true_cfg)
        return denoise(
            x, inputs.family.sigmas(inputs.base.folder, params.steps, grid.count), prompt, predict
        )

    def _text(self, caption: str) -> Text:
        parts = self.cache.load(self.cache.text_path(caption))
        return {name: tensor.to(self.device) for name, tensor in parts.items()}

    def _nothing_given(self, x: Tensor) -> GivenTokens | None:
        if not self.job.family.needs_blank:
            return None
        blank = self.cache.posterior(blank_path(self.cache, self.view)).mean[None]
        return nothing_given(x, blank.to(x))

    def _write(self, path: Path, *columns: Sequence[Tensor]) -> None:
        """Decodes and writes the sheet, loading the VAE only for this call."""
        inputs = self.job
        rests = inputs.config.train.offload and not self.dist.is_sharded
        if rests:
            self.transformer.to("cpu")
            free_memory()
        vae = inputs.family.load_vae(inputs.base.folder, dtype=inputs.dtype, device=self.device)
        pictures = [
            [_picture(inputs.family.decode(vae, tokens, self.view.grid)[0]) for tokens in column]
            for column in columns
        ]
        del vae
        free_memory()
        if rests:
            self.transformer.to(self.device)
        width, height = pictures[0][0].size
        sheet = Image.new("RGB", (width * len(columns), height * len(self.captions)))
        for x, column in enumerate(pictures):
            for y, picture in enumerate(column):
                sheet.paste(picture, (x * width, y * height))
        with atomic_path(path) as scratch:
            sheet.save(scratch, format="JPEG", quality=90)


def _picture(pixels: Tensor) -> Image.Image:
    values = ((pixels.clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte()
    picture = Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).cpu().numpy()))
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return picture
