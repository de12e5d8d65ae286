"""Bringing the frozen base in: how its weights are held, and what makes it quicker."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from iclora.errors import BadConfig, BadInput
from iclora.models.families import Family, Geometry
from iclora.models.families.flux1 import cast_to_fp8
from iclora.training.fit import available_weights, free_bytes
from iclora.training.fitting import Shape, choose_weights
from iclora.training.job import Job
from iclora.training.sharding import refuse_unshardable
from iclora.training.team import Team
from schemas.training import TrainParams

STORED_BYTES = 2
"""A parameter's bytes in released files: bf16."""

ADAPTER_WIDTHS = 31
"""Inputs and outputs of a block's linears in units of the width (30.7 in FLUX.1)."""

log = logging.getLogger(__name__)


class Base(NamedTuple):
    """The transformer on the device."""

    transformer: Any
    weights: str
    """``dense``, ``fp8`` or ``nf4``."""

    shape: Shape


def load_base(job: Job, team: Team, tokens: int) -> Base:
    """Loads the transformer, with a training adapter fused in where one is named.

    Args:
        job: names the base.
        team: its device.
        tokens: of the largest canvas and its caption.
    """
    train = job.config.train
    shape = expected_shape(job)
    weights = "dense" if train.weights == "auto" else train.weights
    if team.shards:
        refuse_unshardable(train, team)
        shape = shape._replace(parameters=shape.parameters // team.size)
    if team.device.type == "cuda" and train.plan == "auto":
        ways = ("dense",) if team.shards else available_weights()
        weights = choose_weights(shape, train, tokens, free_bytes(team.device), ways)
    return Base(_load(job, team, weights), weights, shape)


def _load(job: Job, team: Team, weights: str) -> Any:
    """The transformer; a training adapter is fused in before fp8 casting, for float8 cannot add."""
    adapter = job.config.train.training_adapter
    late = bool(adapter) and weights == "fp8"
    transformer: Any = job.family.load_transformer(
        job.base.folder,
        dtype=job.dtype,
        device="cpu" if team.shards or late else team.device,
        weights="" if weights == "dense" or late else weights,
    )
    if adapter:
        _fuse(job, transformer, Path(adapter))
    if late:
        cast_to_fp8(transformer, job.dtype)
        transformer.to(team.device)
    return transformer


def expected_shape(job: Job) -> Shape:
    """From the configuration and the sizes of the files, before anything is loaded."""
    return shape_at(geometry_of(job.family, job.base.folder), job.config.train.lora.rank)


def shape_at(geometry: Geometry, rank: int) -> Shape:
    """A base with an adapter of this rank on it."""
    adapter = ADAPTER_WIDTHS * rank * geometry.blocks * geometry.width
    return Shape(geometry.parameters, adapter, geometry.blocks, geometry.width)


def geometry_of(family: Family, folder: Path) -> Geometry:
    """What a base's files say of it."""
    files = (folder / "transformer").glob("*.safetensors")
    parameters = sum(file.stat().st_size for file in files) // STORED_BYTES
    return Geometry(
        family.token_pixels(folder),
        family.text_length(folder),
        *family.architecture(folder),
        parameters,
    )


def _fuse(job: Job, transformer: Any, path: Path) -> None:
    """Adds a training adapter to the frozen weights for good.

    Raises:
        BadInput: there is no such file.
    """
    import diffusers

    if not path.is_file():
        raise BadInput(f"train.training_adapter: {path} does not exist")
    pipeline = getattr(diffusers, job.family.pipeline)
    state = pipeline.lora_state_dict(str(path.resolve()), use_safetensors=True)
    transformer.load_lora_adapter(state, prefix="transformer", adapter_name="under")
    transformer.fuse_lora(adapter_names=["under"])
    transformer.unload_lora()
    log.info("fused %s", path.name)


def prepare_speed(transformer: Any, train: TrainParams) -> None:
    """Attention backend and compilation, by name.

    Raises:
        BadConfig: diffusers has no such backend here.
    """
    # diffusers keeps the last choice for the whole process, so the default is chosen too.
    default = os.environ.get("DIFFUSERS_ATTN_BACKEND", "native")
    try:
        transformer.set_attention_backend(train.attention or default)
    except (ValueError, RuntimeError, ImportError) as error:
        raise BadConfig(f"train.attention = {train.attention!r}: {error}") from error
    if train.compile:
        transformer.compile_repeated_blocks(dynamic=True)
