"""Export of a dataset version and a configuration to AI-Toolkit."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from iclora.dataset.reader import Dataset
from iclora.errors import BadConfig, BadInput
from iclora.presets import load_config
from schemas.config import Config
from schemas.training import OptimizerParams

READS = ("jpg", "png")
"""Image file extensions exported unchanged; others are converted to PNG."""

OUTPUT, LOGS = "output", "logs"
"""Folders that AI-Toolkit creates next to the YAML: trained weights and TensorBoard events."""

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
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name a new folder")
    config = config or load_config("movie-shots", base="flux1-dev")
    require_supported(config)
    name = name or dataset.manifest.name
    masked = _write_samples(dataset, folder)
    tree = {
        "job": "extension",
        "config": {"name": name, "process": [_process(config, dataset, masked=masked)]},
        "meta": {"name": name, "version": dataset.manifest.version},
    }
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def require_supported(config: Config) -> None:
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


def _write_samples(dataset: Dataset, folder: Path) -> bool:
    """Writes the train split; returns true if there are masks, which then every sample has."""
    images, masks = folder / "data", folder / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    masked = False
    for sample in dataset.samples("train"):
        record = sample.record
        image = images / f"{record.key}.{sample.extension}"
        if sample.extension in READS:
            image.write_bytes(sample.image)
        else:
            with Image.open(io.BytesIO(sample.image)) as opened:
                opened.convert("RGB").save(image.with_suffix(".png"))
        (images / f"{record.key}.txt").write_text(sample.text, encoding="utf-8")
        mask = Image.new("L", (record.width, record.height), 255)
        draw = ImageDraw.Draw(mask)
        for x0, y0, x1, y1 in record.masks:
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=0)
        mask.save(masks / f"{record.key}.png")
        masked = masked or bool(record.masks)
    if not masked:
        shutil.rmtree(masks)
    return masked


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
    network: dict[str, Any] = {
        "type": "lora",
        "linear": train.lora.rank,
        "linear_alpha": train.lora.rank,
    }
    if train.lora.start_from:
        network["pretrained_lora_path"] = train.lora.start_from
    model: dict[str, Any] = {
        "name_or_path": config.base.model,
        "arch": _ARCHES[config.base.family],
        "quantize": train.weights == "fp8",
    }
    if train.training_adapter:
        model["assistant_lora_path"] = train.training_adapter
    return {
        "type": "sd_trainer",
        "training_folder": OUTPUT,
        "training_seed": train.seed,
        "log_dir": LOGS,
        "logging": {"log_every": 1},
        "network": network,
        "save": {
            "dtype": _SAVE[train.lora.save_dtype],
            "save_every": train.save_every,
            "max_step_saves_to_keep": train.keep_checkpoints,
        },
        "datasets": [folder],
        "train": _train(config),
        "model": model,
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
        "optimizer": optimizer.name,
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
