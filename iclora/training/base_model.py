"""Loading of the frozen base model: weight format, attention backend, and compilation."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from iclora.errors import BadConfig, BadInput
from iclora.models.families import Family, Geometry
from iclora.models.families.flux1 import cast_to_fp8
from iclora.models.lora_files import read_lora
from iclora.training.distributed import DistEnv, require_shardable
from iclora.training.memory import ModelShape, available_weights, choose_weights, free_bytes
from iclora.training.run_inputs import RunInputs
from schemas.training import TrainParams

STORED_BYTES = 2
"""Bytes per parameter in released bf16 files."""

ADAPTER_WIDTHS = 31
"""Total input and output size of a block's linears, in multiples of the width (30.7 in FLUX.1)."""

log = logging.getLogger(__name__)


def load_base(inputs: RunInputs, dist: DistEnv, tokens: int) -> tuple[Any, str, ModelShape]:
    """Loads the transformer and fuses the training adapter if one is configured.

    Args:
        inputs: inputs of the run, including the base.
        dist: processes of the run and their device.
        tokens: sequence length of the largest canvas and its caption.

    Returns:
        Transformer on the device, its weight format (``dense``, ``fp8``, or ``nf4``), and its shape
        per process.
    """
    train = inputs.config.train
    shape = shape_at(geometry_of(inputs.family, inputs.base.folder), train.lora.rank)
    weights = "dense" if train.weights == "auto" else train.weights
    if dist.is_sharded:
        require_shardable(train, dist)
        shape = shape._replace(parameters=shape.parameters // dist.world_size)
    if dist.device.type == "cuda" and train.memory_plan == "auto":
        formats = ("dense",) if dist.is_sharded else available_weights()
        weights = choose_weights(shape, train, tokens, free_bytes(dist.device), formats)
    # float8 tensors cannot be added: fuse a training adapter first, then cast.
    casts_late = bool(train.training_adapter) and weights == "fp8"
    transformer: Any = inputs.family.load_transformer(
        inputs.base.folder,
        dtype=inputs.dtype,
        device="cpu" if dist.is_sharded or casts_late else dist.device,
        weights="" if weights == "dense" or casts_late else weights,
    )
    if train.training_adapter:
        _fuse(inputs.family, transformer, Path(train.training_adapter))
    if casts_late:
        cast_to_fp8(transformer, inputs.dtype)
        transformer.to(dist.device)
    return transformer, weights, shape


def shape_at(geometry: Geometry, rank: int) -> ModelShape:
    """Computes the shape of a base with an adapter of the given rank."""
    adapter = ADAPTER_WIDTHS * rank * geometry.blocks * geometry.width
    return ModelShape(geometry.parameters, adapter, geometry.blocks, geometry.width)


def geometry_of(family: Family, folder: Path) -> Geometry:
    """Reads the geometry of a base from its configuration and file sizes."""
    files = (folder / "transformer").glob("*.safetensors")
    parameters = sum(file.stat().st_size for file in files) // STORED_BYTES
    return Geometry(
        family.token_pixels(folder),
        family.text_length(folder),
        *family.architecture(folder),
        parameters,
    )


def _fuse(family: Family, transformer: Any, path: Path) -> None:
    """Fuses a training adapter into the frozen weights at its own scale.

    Raises:
        BadInput: the file does not exist, is damaged, or changes nothing in the transformer.
    """
    if not path.is_file():
        raise BadInput(f"train.training_adapter: {path} does not exist")
    # diffusers' loaders would drop the alphas, in keys and in the header.
    tensors = read_lora(path, family)
    tensors = {key: value for key, value in tensors.items() if not key.startswith("text_encoder")}
    if not tensors:
        raise BadInput(f"train.training_adapter: {path} has no weights for the transformer")
    transformer.load_lora_adapter(tensors, prefix=None, adapter_name="under")
    transformer.fuse_lora(adapter_names=["under"])
    transformer.unload_lora()
    log.info("fused %s", path.name)


def prepare_speed(transformer: Any, train: TrainParams) -> None:
    """Configures the attention backend and compiles the repeated blocks if requested.

    Raises:
        BadConfig: diffusers does not offer the attention backend on this machine.
    """
    # diffusers keeps the backend per process, so set the default explicitly.
    default = os.environ.get("DIFFUSERS_ATTN_BACKEND", "native")
    try:
        transformer.set_attention_backend(train.attention_backend or default)
    except (ValueError, RuntimeError, ImportError) as error:
        raise BadConfig(
            f"train.attention_backend = {train.attention_backend!r}: {error}"
        ) from error
    if train.compile:
        transformer.compile_repeated_blocks(dynamic=True)
