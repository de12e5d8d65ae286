"""Translation rules for every key of AI-Toolkit's FLUX trainer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from iclora.errors import BadConfig
from iclora.training.ai_toolkit.shown import nearest, shown_key, shown_value

Settings = dict[str, Any]
"""Mapping from ``Config`` keys to values."""


class Rule(NamedTuple):
    """Translation rule of one key."""

    status: str = "honoured"
    note: str = ""
    target: str = ""
    """``Config`` key that receives the value unchanged."""

    convert: Callable[[Any], Settings] | None = None
    """Conversion of the value to settings, used without a ``target``."""

    inert: tuple[Any, ...] | None = None
    """Values with which the key has no effect; any other value is rejected."""


def to(target: str, note: str = "") -> Rule:
    """Builds a rule that copies the value to ``target``."""
    return Rule(target=target, note=note or f"{target}")


def by(convert: Callable[[Any], Settings], note: str, status: str = "honoured") -> Rule:
    """Builds a rule that converts the value to settings."""
    return Rule(status, note, convert=convert)


def only(*inert: Any, note: str) -> Rule:
    """Builds a rule that accepts only the given values."""
    return Rule(note=note, inert=inert)


def near(note: str) -> Rule:
    """Builds a rule for a key that iclora approximates in another way."""
    return Rule("approximated", note)


def dead(note: str) -> Rule:
    """Builds a rule for a key that AI-Toolkit itself ignores for FLUX."""
    return Rule("ignored upstream", note)


def choose(what: str, **choices: Settings) -> Callable[[Any], Settings]:
    """Builds a converter that maps names to settings.

    The converter raises ``BadConfig`` for an unknown name.
    """

    def convert(value: Any) -> Settings:
        if str(value) not in choices:
            raise BadConfig(
                f"{what} {shown_value(value)} is not supported; known are {', '.join(choices)}"
                f"{nearest(value, choices)}"
            )
        return choices[str(value)]

    return convert


_NAMES = {
    "fp16": "fp16",
    "float16": "fp16",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp32": "fp32",
    "float32": "fp32",
    "float": "fp32",
}
_SAVE = {name: {"train.lora.save_dtype": ours} for name, ours in _NAMES.items()}
_PRECISION = {
    name: {"train.precision": "fp32" if ours == "fp32" else "bf16"} for name, ours in _NAMES.items()
}
_WARM_UP = {"train.optimizer.lr_schedule": "constant", "train.optimizer.warmup_steps": 1000}
_OFF = (None, False, 0, 0.0, "", [], {})


def _resolutions(value: Any) -> Settings:
    return {"data.resolutions": value if isinstance(value, list) else [value]}


def _optimizer_params(value: Any) -> Settings:
    _refuse_others(value, "train.optimizer_params", {"betas", "eps", "weight_decay"})
    return {f"train.optimizer.{key}": setting for key, setting in value.items()}


def _refuse_others(table: dict[str, Any], name: str, known: set[str]) -> None:
    for number, key in enumerate(table, 1):
        if key not in known:
            raise BadConfig(f"{name}.{shown_key(key, number)} is not supported")


_INERT_SCHEDULE = {"factor", "total_iters", "start_factor", "end_factor"}


def _schedule_params(value: Any) -> Settings:
    known = {"num_warmup_steps": "train.optimizer.warmup_steps"}
    for key, falling in (("start_factor", 1), ("end_factor", 0)):
        if value.get(key, falling) != falling:
            raise BadConfig(f"train.lr_scheduler_params.{key} must be {falling}")
    settings = {known[key]: setting for key, setting in value.items() if key in known}
    _refuse_others(value, "train.lr_scheduler_params", set(known) | _INERT_SCHEDULE)
    return settings


def _family(value: Any) -> Settings:
    known = {"flux": "flux1", "flux2_klein_4b": "flux2-klein", "flux2_klein": "flux2-klein"}
    if value not in known:
        raise BadConfig(
            f"model.arch {shown_value(value)} is not supported; known are {', '.join(known)}"
        )
    return {"base.family": known[value]}


_PLACE = re.compile(r"(?:\.{0,2}|~|[A-Za-z]:)[\\/].+|[\w.-]+(?:/[\w.-]+)+|[\w.-]+\.safetensors")


def place(target: str) -> Rule:
    """Builds a rule that copies only paths and hub ids; other values may be secrets."""

    def convert(value: Any) -> Settings:
        text = str(value or "")
        if text and not _PLACE.fullmatch(text) and not Path(text).exists():
            raise BadConfig(
                f"{shown_value(value)} is neither a path here nor a hub id such as "
                "black-forest-labs/FLUX.1-dev"
            )
        return {target: value}

    return by(convert, target)


def _prompts(value: Any) -> Settings:
    return {"sample.prompts": [str(text).partition(" --")[0] for text in value]}


PROCESS: dict[str, Rule] = {
    "type": Rule(note="the trainer"),
    "training_folder": near("adapters go to the store, under adapters/<name>/"),
    "performance_log_every": near("throughput is always measured: run.json"),
    "device": dead("accelerate picks the device, upstream too"),
    "training_seed": to("train.seed"),
    "trigger_word": only(*_OFF, note="captions are never altered: write the word into them"),
    "log_dir": near("TensorBoard's files lie in the running work's folder"),
    "logging": Rule(),
    "sqlite_db_path": near("iclora has no such database"),
    "adapter": only(*_OFF, note="no image adapters"),
    "embedding": only(*_OFF, note="no embeddings"),
    "decorator": only(*_OFF, note="no decorators"),
    "slider": dead("of another process type"),
    "guidance": only(*_OFF, note="no guidance training"),
    "torch_profiler": only(*_OFF, note="no profiler"),
}

NETWORK: dict[str, Rule] = {
    "type": only("lora", note="LoRA"),
    "linear": to("train.lora.rank"),
    "rank": to("train.lora.rank"),
    "linear_alpha": dead("on FLUX alpha is always the rank (ostris/ai-toolkit#157), here too"),
    "alpha": dead("on FLUX alpha is always the rank, here too"),
    "conv": dead("FLUX's blocks have no convolutions"),
    "conv_alpha": dead("FLUX's blocks have no convolutions"),
    "dropout": only(*_OFF, note="no dropout in the adapter"),
    "transformer_only": only(True, note="every linear of the transformer's blocks"),
    "pretrained_lora_path": place("train.lora.start_from"),
    "network_kwargs": only(*_OFF, note="every linear of the blocks is trained"),
    "layer_offloading": near("the memory planner decides"),
}

SAVE: dict[str, Rule] = {
    "dtype": by(choose("save.dtype", **_SAVE), "train.lora.save_dtype"),
    "save_every": to("train.save_every", "train.save_every; resuming repeats and loses nothing"),
    "max_step_saves_to_keep": to("train.keep_checkpoints"),
    "save_format": only("safetensors", "diffusers", note="diffusers' layout, as on FLUX upstream"),
    "push_to_hub": near("run `iclora push` afterwards"),
    "hf_repo_id": near("an argument of `iclora push`"),
    "hf_private": near("an argument of `iclora push`"),
}

DATASET: dict[str, Rule] = {
    "folder_path": near("build a dataset from the folder first; DATASET is the trainer's argument"),
    "dataset_path": near("build a dataset first; DATASET is the trainer's argument"),
    "caption_ext": only("txt", ".txt", note="captions are .txt files beside the pictures"),
    "default_caption": only(*_OFF, note="a picture without a caption is an error, not a default"),
    "caption_dropout_rate": to("data.caption_dropout"),
    "token_dropout_rate": only(*_OFF, note="captions are never altered"),
    "keep_tokens": only(*_OFF, note="captions are never altered"),
    "shuffle_tokens": only(*_OFF, note="captions are never altered"),
    "trigger_word": only(*_OFF, note="captions are never altered"),
    "cache_latents": near("always cached, outside the dataset, and redrawn at every step"),
    "cache_latents_to_disk": near("always cached, outside the dataset, and redrawn at every step"),
    "cache_text_embeddings": near("always cached; dropout still works"),
    "resolution": by(_resolutions, "data.resolutions; one a step, and every sample counts alike"),
    "buckets": only(True, note="buckets by aspect, but every sample counts alike"),
    "bucket_tolerance": dead("overwritten by the model's divisibility"),
    "scale": only(1, 1.0, note="sizes come from data.resolutions"),
    "num_repeats": only(1, note="every sample counts alike"),
    "flip_x": only(*_OFF, note="panels are never mirrored"),
    "flip_y": only(*_OFF, note="panels are never mirrored"),
    "random_crop": only(*_OFF, note="a crop would cut panels"),
    "square_crop": only(*_OFF, note="a crop would cut panels"),
    "is_reg": only(*_OFF, note="no regularisation set"),
    "prior_reg": only(*_OFF, note="no regularisation set"),
    "loss_multiplier": only(1, 1.0, note="every sample counts alike"),
    "network_weight": only(1, 1.0, note="the adapter's scale is 1"),
    "mask_path": near("masks are in the dataset's records"),
    "alpha_mask": only(*_OFF, note="masks are in the dataset's records"),
    "invert_mask": only(*_OFF, note="masks are in the dataset's records"),
    "mask_min_value": only(*_OFF, note="masked tokens count nothing"),
    "control_path": only(*_OFF, note="use train.conditional_probability"),
    "num_workers": near("one thread prepares the next step"),
    "prefetch_factor": near("one thread prepares the next step"),
}

TRAIN: dict[str, Rule] = {
    "batch_size": to("train.batch", "train.batch, over all processes"),
    "steps": to("train.steps"),
    "gradient_accumulation_steps": only(
        1, None, note="upstream a value above 1 keeps the last micro-batch only; raise train.batch"
    ),
    "gradient_accumulation": only(
        1, None, note="raise train.batch: micro-batches are the planner's"
    ),
    "train_unet": only(True, note="the adapter is on the transformer"),
    "train_text_encoder": only(*_OFF, note="text encoders stay as they are"),
    "gradient_checkpointing": by(
        lambda on: {"train.activation_checkpointing": 1.0 if on else 0.0},
        "train.activation_checkpointing; on a GPU the planner recomputes only what it must",
    ),
    "noise_scheduler": only("flowmatch", note="flow matching"),
    "optimizer": by(
        choose(
            "train.optimizer",
            adamw={"train.optimizer.name": "adamw"},
            adamw8bit={"train.optimizer.name": "adamw8bit"},
        ),
        "train.optimizer.name",
    ),
    "optimizer_params": by(_optimizer_params, "train.optimizer.*"),
    "lr": to("train.optimizer.lr"),
    "unet_lr": to("train.optimizer.lr"),
    "text_encoder_lr": dead("text encoders are not trained"),
    "lr_scheduler": by(
        choose(
            "train.lr_scheduler",
            constant={"train.optimizer.lr_schedule": "constant"},
            cosine={"train.optimizer.lr_schedule": "cosine"},
            linear={"train.optimizer.lr_schedule": "linear"},
            constant_with_warmup=_WARM_UP,
        ),
        "train.optimizer.lr_schedule; stepped once a step, not once a micro-batch",
    ),
    "lr_scheduler_params": by(_schedule_params, "train.optimizer.warmup_steps"),
    "max_grad_norm": to("train.optimizer.max_grad_norm"),
    "dtype": by(choose("train.dtype", **_PRECISION), "train.precision; the adapter stays float32"),
    "loss_type": only("mse", note="squared error, in float32"),
    "timestep_type": by(
        choose(
            "train.timestep_type",
            sigmoid={"train.noise.sampler": "sigmoid"},
            linear={"train.noise.sampler": "uniform"},
            flux_shift={"train.noise.sampler": "shift"},
            shift={"train.noise.sampler": "shift"},
        ),
        "train.noise.sampler",
    ),
    "linear_timesteps": by(
        lambda on: (
            {"train.noise.sampler": "uniform", "train.noise.weighting": "bell"} if on else {}
        ),
        "uniform timesteps, weighted by a bell",
    ),
    "content_or_style": only("balanced", note="no bias to one end of the noise"),
    "min_denoising_steps": only(0, note="all timesteps"),
    "max_denoising_steps": only(999, 1000, note="all timesteps"),
    "cfg_scale": to("train.noise.guidance"),
    "ema_config": Rule(),
    "skip_first_sample": near("no sheet is drawn before step 1: each shows the base beside it"),
    "force_first_sample": near("no sheet is drawn before step 1: each shows the base beside it"),
    "disable_sampling": by(
        lambda on: {"train.sample_every": 0} if on else {}, "train.sample_every = 0"
    ),
    "start_step": only(*_OFF, note="a run goes on by itself from its last checkpoint"),
    "unload_text_encoder": near("text encoders are freed before the transformer comes in"),
    "cache_text_embeddings": near("always cached; dropout still works"),
    "noise_offset": only(*_OFF, note="no noise offset"),
    "attention_backend": by(
        lambda name: {"train.attention_backend": "" if name == "native" else str(name)},
        "train.attention_backend",
    ),
    "xformers": near("see train.attention_backend"),
    "sdp": near("PyTorch's attention is the default"),
    "reg_weight": only(1, 1.0, note="no regularisation set"),
    "snr_gamma": only(*_OFF, note="not for flow matching"),
    "min_snr_gamma": only(*_OFF, note="not for flow matching"),
    "diff_output_preservation": only(*_OFF, note="no output preservation"),
    "blank_prompt_preservation": only(*_OFF, note="no output preservation"),
    "inverted_mask_prior": only(*_OFF, note="no prior outside masks"),
    "bypass_guidance_embedding": only(*_OFF, note="the guidance embedding is used"),
    "validation_config": near("the val split, train.validate_every"),
    "merge_network_on_save": only(*_OFF, note="the adapter is saved, not the merged model"),
    "do_differential_guidance": only(*_OFF, note="no differential guidance"),
}

EMA: dict[str, Rule] = {
    "use_ema": Rule(note="off: train.optimizer.ema_decay = 0"),
    "ema_decay": near("train.optimizer.ema_decay, with a warm-up; raw weights are kept too"),
    "use_feedback": only(*_OFF, note="no feedback"),
    "param_multiplier": only(1, 1.0, note="no multiplier"),
}

MODEL: dict[str, Rule] = {
    "name_or_path": place("base.model"),
    "is_flux": by(lambda on: {"base.family": "flux1"} if on else {}, "base.family"),
    "arch": by(_family, "base.family"),
    "quantize": by(
        lambda on: {"train.weights": "fp8"} if on else {},
        "train.weights = fp8: layer by layer in float8 instead of quanto's qfloat8",
        "approximated",
    ),
    "quantize_te": near("text encoders are freed before the transformer comes in"),
    "qtype": only("qfloat8", "float8", note="see quantize"),
    "qtype_te": near("text encoders are freed before the transformer comes in"),
    "low_vram": near("the memory planner decides"),
    "attn_masking": only(*_OFF, note="padding is not masked, as FLUX was trained"),
    "assistant_lora_path": place("train.training_adapter"),
    "lora_path": place("train.training_adapter")._replace(
        note="train.training_adapter: fused into the base"
    ),
    "layer_offloading": near("the memory planner decides"),
    "layer_offloading_transformer_percent": near("the memory planner decides"),
    "layer_offloading_text_encoder_percent": near("the memory planner decides"),
    "compile": to("train.compile"),
    "block_compile": to("train.compile"),
    "compile_mode": near("torch's default mode"),
    "split_model_over_gpus": only(*_OFF, note="one model a GPU"),
}

SAMPLE: dict[str, Rule] = {
    "sampler": only("flowmatch", note="Euler steps of flow matching"),
    "sample_every": to("train.sample_every"),
    "sample_start_step": only(0, note="from the start"),
    "width": Rule(note="layout.panel_width; divided by the columns"),
    "height": Rule(note="layout.panel_height; divided by the rows"),
    "prompts": by(_prompts, "sample.prompts; flags after ` --` are cut off"),
    "samples": only(*_OFF, note="use prompts"),
    "neg": dead("FLUX takes no negative prompt"),
    "seed": to("sample.seed"),
    "walk_seed": near("seeds always count up within a sheet and repeat from sheet to sheet"),
    "guidance_scale": to("sample.guidance"),
    "sample_steps": to("sample.steps"),
    "network_multiplier": only(1, 1.0, note="the adapter's scale is 1"),
    "format": near("sheets are JPEG"),
    "guidance_rescale": dead("not for FLUX"),
}

LOGGING: dict[str, Rule] = {
    "log_every": near("every step is in metrics.jsonl"),
    "use_wandb": only(*_OFF, note="metrics.jsonl and TensorBoard"),
    "use_ui_logger": near("metrics.jsonl and TensorBoard"),
    "project_name": near("metrics.jsonl and TensorBoard"),
    "run_name": near("metrics.jsonl and TensorBoard"),
}

SECTIONS: dict[str, dict[str, Rule]] = {
    "": PROCESS,
    "network": NETWORK,
    "save": SAVE,
    "datasets": DATASET,
    "train": TRAIN,
    "train.ema_config": EMA,
    "model": MODEL,
    "sample": SAMPLE,
    "logging": LOGGING,
}

_UPSTREAM = {"": "process", "train.ema_config": "ema"}


@lru_cache(maxsize=1)
def upstream_keys() -> dict[str, frozenset[str]]:
    """Reads every key that AI-Toolkit accepts, by section, with or without a rule here."""
    file = Path(__file__).with_name("upstream_keys.json")
    found = cast("dict[str, list[str]]", json.loads(file.read_text(encoding="utf-8"))["keys"])
    return {name: frozenset(found[_UPSTREAM.get(name, name)]) for name in SECTIONS}


DEFAULTS: Settings = {
    "train.lora.rank": 4,
    "train.save_every": 1000,
    "train.keep_checkpoints": 5,
    "train.lora.save_dtype": "fp16",
    "data.resolutions": [512],
    "data.caption_dropout": 0.0,
    "train.batch": 1,
    "train.steps": 1000,
    "train.optimizer.lr": 1e-6,
    "train.optimizer.name": "adamw",
    "train.optimizer.ema_decay": 0.0,
    "train.activation_checkpointing": 1.0,
    "train.precision": "fp32",
    "train.noise.guidance": 1.0,
    "train.sample_every": 100,
    "sample.guidance": 7.0,
    "sample.steps": 20,
    "sample.seed": 0,
}
"""AI-Toolkit defaults that differ from iclora's."""

EMA_DECAY = 0.999
"""AI-Toolkit's EMA decay if ``use_ema`` is set without ``ema_decay``."""
