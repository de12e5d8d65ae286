"""Export of a dataset version and a configuration to AI-Toolkit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from iclora.dataset.reader import Dataset
from iclora.dataset.shard_writer import Sample
from iclora.errors import BadConfig, BadInput
from iclora.presets import load_config
from schemas.config import Config
from schemas.training import LoraParams, OptimizerParams

READS = ("jpg", "png")
"""Image file extensions exported unchanged; others are converted to PNG."""

OUTPUT, LOGS = "output", "logs"
"""Folders that AI-Toolkit creates next to the YAML: trained weights and TensorBoard events."""

_OPTIMIZERS = {"adamw": "adamw", "adamw8bit": "adamw8bit"}
_SAMPLERS = {"sigmoid": "sigmoid", "uniform": "linear", "shift": "flux_shift"}
_SAVE = {"fp16": "float16", "bf16": "bf16", "fp32": "float32"}
_ARCHES = {"flux1": "flux", "flux2-klein": "flux2_klein_4b"}


def export_ai_toolkit(
    dataset: Dataset, folder: Path | str, config: Config | None = None, *, name: str = ""
) -> Path:
    """Writes the train split as images and captions, and the configuration as YAML.

    Masks become images in ``masks/`` that are white where the loss applies. Paths in the YAML are
    relative to ``folder``; run AI-Toolkit from there.

    Args:
        dataset: dataset version to export.
        folder: target folder, created if missing; must be empty.
        config: training configuration; defaults to ``movie-shots`` on ``flux1-dev``.
        name: name of the adapter; defaults to the name of the dataset.

    Returns:
        Path of the YAML file.

    Raises:
        BadInput: the folder is not empty.
        BadConfig: AI-Toolkit does not support a setting; the message names it.
    """
    place = Path(folder)
    if place.exists() and any(place.iterdir()):
        raise BadInput(f"{place} is not empty; name a new folder")
    chosen = config or load_config("movie-shots", base="flux1-dev")
    refuse_ours_alone(chosen)
    pictures = place / "data"
    pictures.mkdir(parents=True)
    samples = list(_write(dataset, pictures, place / "masks"))
    called = name or dataset.manifest.name
    file = place / f"{called}.yml"
    tree = _tree(called, chosen, dataset, masked=any(samples))
    file.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def refuse_ours_alone(config: Config) -> None:
    """Rejects settings that AI-Toolkit does not support.

    Raises:
        BadConfig: a setting has no AI-Toolkit equivalent; the message names it.
    """
    train = config.train
    if config.base.family not in _ARCHES:
        raise BadConfig(f"AI-Toolkit does not train base.family = {config.base.family!r}")
    if train.conditional_probability:
        raise BadConfig(
            "AI-Toolkit cannot train with given panels: set train.conditional_probability=0"
        )
    if train.panel_weights:
        raise BadConfig("AI-Toolkit knows no panels: set train.panel_weights=[]")
    if train.optimizer.warmup_steps and train.optimizer.lr_schedule != "constant":
        raise BadConfig(
            f"AI-Toolkit has no warm-up before a {train.optimizer.lr_schedule} schedule: set "
            f"train.optimizer.warmup_steps=0"
        )


def _write(dataset: Dataset, pictures: Path, masks: Path) -> list[bool]:
    masked: list[bool] = []
    for sample in dataset.samples("train"):
        key = sample.record.key
        extension, data = _readable(sample)
        (pictures / f"{key}.{extension}").write_bytes(data)
        (pictures / f"{key}.txt").write_text(sample.text, encoding="utf-8")
        masks.mkdir(exist_ok=True)
        _mask(sample).save(masks / f"{key}.png")
        masked.append(bool(sample.record.masks))
    if not any(masked):
        for file in masks.glob("*.png"):
            file.unlink()
        masks.rmdir()
    return masked


def _readable(sample: Sample) -> tuple[str, bytes]:
    if sample.extension in READS:
        return sample.extension, sample.image
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(sample.image)) as picture:
        picture.convert("RGB").save(buffer, format="PNG")
    return "png", buffer.getvalue()


def _mask(sample: Sample) -> Image.Image:
    mask = Image.new("L", (sample.record.width, sample.record.height), 255)
    brush = ImageDraw.Draw(mask)
    for x0, y0, x1, y1 in sample.record.masks:
        brush.rectangle((x0, y0, x1 - 1, y1 - 1), fill=0)
    return mask


def _tree(name: str, config: Config, dataset: Dataset, *, masked: bool) -> dict[str, Any]:
    return {
        "job": "extension",
        "config": {"name": name, "process": [_process(config, dataset, masked=masked)]},
        "meta": {"name": name, "version": dataset.manifest.version},
    }


def _process(config: Config, dataset: Dataset, *, masked: bool) -> dict[str, Any]:
    train, sample = config.train, config.sample
    layout = dataset.manifest.config.layout
    folder: dict[str, Any] = {
        "folder_path": "data",
        "caption_ext": "txt",
        "caption_dropout_rate": config.data.caption_dropout,
        "cache_latents_to_disk": True,
        "resolution": list(config.data.resolutions),
    }
    if masked:
        folder["mask_path"] = "masks"
    return {
        "type": "sd_trainer",
        "training_folder": OUTPUT,
        "training_seed": train.seed,
        "log_dir": LOGS,
        "logging": {"log_every": 1},
        "network": _network(train.lora),
        "save": {
            "dtype": _SAVE[train.lora.save_dtype],
            "save_every": train.save_every,
            "max_step_saves_to_keep": train.keep_checkpoints,
        },
        "datasets": [folder],
        "train": _train(config),
        "model": _model(config),
        "sample": {
            "sampler": "flowmatch",
            "sample_every": train.sample_every or train.steps,
            "width": layout.width,
            "height": layout.height,
            "prompts": list(sample.prompts),
            "seed": sample.seed,
            "walk_seed": True,
            "guidance_scale": sample.guidance,
            "sample_steps": sample.steps,
        },
    }


def _train(config: Config) -> dict[str, Any]:
    train, optimizer = config.train, config.train.optimizer
    settings: dict[str, Any] = {
        "batch_size": train.batch,
        "steps": train.steps,
        "train_unet": True,
        "train_text_encoder": False,
        "gradient_checkpointing": train.activation_checkpointing > 0,
        "noise_scheduler": "flowmatch",
        "optimizer": _OPTIMIZERS[optimizer.name],
        "optimizer_params": {
            "betas": list(optimizer.betas),
            "weight_decay": optimizer.weight_decay,
            "eps": optimizer.eps,
        },
        "lr": optimizer.lr,
        **_schedule(optimizer),
        "max_grad_norm": optimizer.max_grad_norm,
        "timestep_type": _SAMPLERS[train.noise.sampler],
        "cfg_scale": train.noise.guidance,
        "disable_sampling": train.sample_every == 0,
        "ema_config": {"use_ema": optimizer.ema_decay > 0, "ema_decay": optimizer.ema_decay},
        "dtype": train.precision,
    }
    if train.noise.weighting == "bell":
        settings["linear_timesteps"] = True
    return settings


def _schedule(optimizer: OptimizerParams) -> dict[str, Any]:
    name = optimizer.lr_schedule
    if optimizer.warmup_steps:
        warm = {"num_warmup_steps": optimizer.warmup_steps}
        return {"lr_scheduler": "constant_with_warmup", "lr_scheduler_params": warm}
    if name == "linear":  # torch's LinearLR, which rises by default
        factors = {"start_factor": 1.0, "end_factor": 0.0}
        return {"lr_scheduler": name, "lr_scheduler_params": factors}
    return {"lr_scheduler": name}


def _model(config: Config) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "name_or_path": config.base.model,
        "arch": _ARCHES[config.base.family],
        "quantize": config.train.weights == "fp8",
    }
    if config.train.training_adapter:
        settings["assistant_lora_path"] = config.train.training_adapter
    return settings


def _network(lora: LoraParams) -> dict[str, Any]:
    settings: dict[str, Any] = {"type": "lora", "linear": lora.rank, "linear_alpha": lora.rank}
    if lora.start_from:
        settings["pretrained_lora_path"] = lora.start_from
    return settings
