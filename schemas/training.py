"""Parameters of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.base import Schema, Unit


class LoraParams(Schema):
    """The adapter's shape; alpha always equals rank (scale 1)."""

    rank: PositiveInt = 16


class DataParams(Schema):
    """How samples are read for training."""

    resolutions: tuple[PositiveInt, ...] = (512, 768, 1024)
    """Square roots of the areas of the buckets, in pixels; never upscaled."""

    caption_dropout: Unit = 0.05
    allow_preview: bool = False
    """Train a base other than the miniature on a dataset whose captions are a preview."""


class OptimizerParams(Schema):
    """AdamW and what surrounds it."""

    name: Literal["adamw", "adamw8bit"] = "adamw"
    lr: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    """0 switches the moving average off."""


class NoiseParams(Schema):
    """Which timesteps are trained and how they are weighted."""

    sampler: Literal["sigmoid", "uniform", "shift"] = "sigmoid"
    weighting: Literal["none", "bell"] = "none"
    guidance: NonNegativeFloat = 1.0
    """Value of the guidance embedding (AI-Toolkit's ``train.cfg_scale``)."""


class TrainParams(Schema):
    """One training run."""

    steps: PositiveInt = 5000
    batch: PositiveInt = 4
    seed: NonNegativeInt = 42
    lora: LoraParams = LoraParams()
    optimizer: OptimizerParams = OptimizerParams()
    noise: NoiseParams = NoiseParams()
    conditional: Unit = 0.0
    """Probability that a random subset of panels is given clean."""

    precision: Literal["bf16", "fp32"] = "bf16"
    checkpoint_blocks: Unit = 1.0
    """Share of the transformer's blocks that recompute activations."""

    save_every: PositiveInt = 250
    keep_checkpoints: PositiveInt = 4
    sample_every: NonNegativeInt = 250
