"""Parameters of training, its plan, and the progress of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.base import Operational, Schema, Unit

Interior = Annotated[float, Field(gt=0.0, lt=1.0)]
"""Strictly between 0 and 1."""


class LoraParams(Schema):
    """Shape and files of the adapter; alpha always equals rank (scale 1)."""

    rank: PositiveInt = 16
    """Rank of every changed layer."""

    start_from: str = ""
    """Adapter file to start from (ours, AI-Toolkit, kohya, diffusers); empty starts at zero."""

    save_dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Type of the tensors in the published files; checkpoints are fp32."""

    metadata: dict[str, str] = {}
    """Metadata in the header of the published files (AI-Toolkit's ``meta``)."""


class DataParams(Schema):
    """Settings of reading samples for training."""

    resolutions: tuple[PositiveInt, ...] = (512, 768, 1024)
    """Square roots of the areas of the buckets, in pixels; never upscaled."""

    caption_dropout: Unit = 0.05
    """Probability that a sample is trained without its caption."""

    allow_preview: bool = False
    """Train a base other than the miniature on a dataset whose captions are a preview."""


class OptimizerParams(Schema):
    """AdamW, its schedule, gradient clipping, and moving average."""

    name: Literal["adamw", "adamw8bit"] = "adamw"
    """``adamw8bit`` needs bitsandbytes."""

    lr: PositiveFloat = 1e-4
    """Learning rate."""

    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: constant, or falling to zero at the last step."""

    warmup_steps: NonNegativeInt = 0
    """Number of steps in which the rate rises from zero."""

    betas: tuple[Unit, Unit] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""

    eps: PositiveFloat = 1e-6
    """AdamW's epsilon."""

    weight_decay: NonNegativeFloat = 0.01
    """AdamW's weight decay."""

    max_grad_norm: PositiveFloat = 1.0
    """Maximum norm of the gradient, to which longer ones are clipped."""

    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    """Decay of the moving average of the weights; 0 switches it off."""


class NoiseParams(Schema):
    """Distribution and weighting of training timesteps."""

    sampler: Literal["sigmoid", "uniform", "shift"] = "sigmoid"
    """``shift``: uniform, then pushed towards noise by ``shift``."""

    shift: NonNegativeFloat = 0.0
    """Factor of the push, ``s t / (1 + (s - 1) t)``; 0: FLUX.1's by number of tokens.

    What panels have in common is decided near noise: a larger factor teaches it in fewer steps.
    """

    weighting: Literal["none", "bell"] = "none"
    """``bell``: middle timesteps weigh more (AI-Toolkit's ``linear_timesteps``)."""

    guidance: NonNegativeFloat = 1.0
    """Value of the guidance embedding (AI-Toolkit's ``train.cfg_scale``)."""


class NonfiniteParams(Schema):
    """Handling of steps whose loss or gradient is not finite."""

    roll_back_after: PositiveInt = 3
    """Consecutive bad steps before weights and optimizer return to the last checkpoint."""

    stop_after: PositiveInt = 10
    """Total number of bad steps before the run stops."""


class TrainParams(Schema):
    """One training run."""

    trainer: Literal["iclora", "ai-toolkit"] = "iclora"
    """``ai-toolkit``: hands dataset and settings to the checkout that the environment's
    ``ICLORA_AI_TOOLKIT`` names, and collects what it made."""

    steps: PositiveInt = 5000
    """Optimizer steps."""

    batch: PositiveInt = 4
    """Samples per step, over all processes."""

    micro_batch: NonNegativeInt = 0
    """Maximum samples per forward pass; 0 leaves it to the planner."""

    seed: NonNegativeInt = 42
    """Random seed."""

    lora: LoraParams = LoraParams()
    optimizer: OptimizerParams = OptimizerParams()
    noise: NoiseParams = NoiseParams()
    nonfinite: NonfiniteParams = NonfiniteParams()
    panel_weights: tuple[NonNegativeFloat, ...] = ()
    """Weight of each panel in the loss; empty weighs every token equally."""

    conditional_probability: Unit = 0.0
    """Probability that a random subset of panels is given clean."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Compute dtype."""

    weights: Literal["auto", "dense", "fp8", "nf4"] = "auto"
    """Format of the base's weights; ``auto``: dense where it fits, else fp8 layer by layer."""

    training_adapter: str = ""
    """Adapter file fused into a distilled base (schnell) during training only."""

    activation_checkpointing: Unit = 1.0
    """Share of the transformer's blocks that recompute activations."""

    memory_plan: Literal["auto", "fixed"] = "auto"
    """``auto``: on a GPU, raise recomputation and cut micro-batches until the step fits."""

    offload: bool = False
    """Keep idle tensors in host memory: the moving average between updates, and the base while a
    sheet is decoded. Encoders never stay on the device, with or without it."""

    compile: bool = False
    """Compile the repeated blocks."""

    attention_backend: str = ""
    """Attention backend of diffusers by name, such as ``_native_cudnn``; empty is its default."""

    save_every: Annotated[PositiveInt, Operational] = 250
    """Steps between checkpoints."""

    keep_checkpoints: Annotated[PositiveInt, Operational] = 4
    """Number of newest checkpoints that are kept."""

    sample_every: Annotated[NonNegativeInt, Operational] = 250
    """Steps between sample sheets; 0 switches them off."""

    validate_every: Annotated[NonNegativeInt, Operational] = 250
    """Steps between validations; 0 switches them off."""

    validate_samples: Annotated[PositiveInt, Operational] = 16
    """Maximum number of val samples measured."""

    validate_timesteps: Annotated[tuple[Interior, ...], Operational] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Timesteps at which the validation loss is measured, with noise that never changes."""


KeyStatus = Literal["honoured", "approximated", "ignored upstream", "refused", "unknown"]
"""``refused``: AI-Toolkit knows the key or value and iclora does not, so none of the other words
would be true; training stops with the note."""


class Explained(Schema):
    """Treatment of one key of an AI-Toolkit file."""

    status: KeyStatus
    note: str = ""
    """One sentence; for unknown keys the nearest known one."""


class StepReport(Schema):
    """Progress of a running training after a step."""

    step: PositiveInt
    """Steps done."""

    steps: PositiveInt
    loss: float
    tokens_per_second: float
    utilisation: float = -1.0
    """Hardware FLOP utilisation, 0-1; -1 where the device's peak is unknown."""

    memory: float = -1.0
    """Peak device memory in GiB; -1 on a CPU."""

    seconds_left: float


class Bucket(Schema):
    """The canvases of one size at one resolution."""

    width: PositiveInt
    height: PositiveInt
    resolution: PositiveInt
    samples: PositiveInt
    tokens: PositiveInt
    """Image tokens per canvas."""

    micro_batch: PositiveInt
    checkpoint_blocks: Unit
    """Share of the blocks that recompute activations."""


class TrainPlan(Schema):
    """Decisions before step 1; the result of a dry run."""

    base: str
    """Base model and revision; ``not here`` where its weights are missing: a plan needs none."""

    device: str
    """Device of the plan: ``cpu``, or the free memory."""

    samples: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    weights: str
    buckets: tuple[Bucket, ...]
    checkpoints: tuple[NonNegativeInt, ...]
    """Steps of the checkpoints that remain at the end."""

    epochs: NonNegativeFloat
    """Number of visits of each sample."""
