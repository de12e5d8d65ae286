"""``iclora train``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iclora.cli.console import answer, note_miniature
from iclora.cli.options import (
    DEFAULT_STORE,
    AsJson,
    Base,
    DatasetName,
    Name,
    Overrides,
    Preset,
    StoreUrl,
)
from iclora.cli.settings import config_from, config_over, open_store, read_config
from iclora.errors import BadConfig

if TYPE_CHECKING:
    from schemas.config import Config
    from schemas.training import TrainPlan

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="JSON", help="A resolved configuration, not a preset."),
]
ToolkitFile = Annotated[
    Path | None, typer.Option("--ai-toolkit", metavar="YAML", help="AI-Toolkit's, not a preset.")
]
Resume = Annotated[
    str, typer.Option("--resume", metavar="VERSION", help="The run that this must continue.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def train(  # noqa: PLR0913 - an option is a parameter
    dataset: DatasetName,
    *,
    preset: Preset = "",
    base: Base = "",
    config: ConfigFile = None,
    ai_toolkit: ToolkitFile = None,
    name: Name = "",
    store: StoreUrl = DEFAULT_STORE,
    overrides: Overrides = None,
    resume: Resume = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Trains an adapter, or goes on where it was stopped."""
    _say_what_happens()
    resolved, called = _resolve(preset, base, config, ai_toolkit, overrides)
    from iclora.cli.train_progress import train_progress
    from iclora.dataset import open_dataset
    from iclora.names import check_name
    from iclora.presets import require_preset
    from iclora.train import train_adapter
    from iclora.training import plan_training

    if called := name or called:
        check_name(called, "an adapter")
    opened = open_store(store)
    if not (config or ai_toolkit):
        require_preset(preset, base, open_dataset(opened, dataset).manifest.config.preset)
    note_miniature(resolved, base=True)
    if dry_run:
        plan = plan_training(opened, dataset, resolved)
        answer(plan.to_json(), _plan_text(plan), as_json=as_json)
        return
    called = called or open_dataset(opened, dataset).manifest.name
    with train_progress() as on_step:
        ref = train_adapter(opened, dataset, resolved, called, progress=on_step, resume=resume)
    facts = ref.to_json()
    answer(
        {"adapter": facts.pop("name"), **facts},
        f"{ref.name}@{ref.version}: {ref.steps} steps, loss {ref.loss:.4f}, in {ref.url}",
        as_json=as_json,
    )


def _say_what_happens() -> None:
    """Shows what training logs (its plan, checkpoints); other commands show warnings only."""
    if "ICLORA_LOG" not in os.environ:
        logging.getLogger("iclora.training").setLevel(logging.INFO)
        for handler in logging.getLogger("iclora").handlers:
            handler.setLevel(logging.INFO)


def _resolve(
    preset: str,
    base: str,
    config: Path | None,
    ai_toolkit: Path | None,
    overrides: list[str] | None,
) -> tuple[Config, str]:
    """The configuration, and the adapter's name where the file gives one."""
    if config and ai_toolkit:
        raise BadConfig("--config and --ai-toolkit both say what to train: give one")
    if config:
        return config_over(read_config(config), overrides), ""
    if ai_toolkit:
        from iclora.training.ai_toolkit import read_ai_toolkit

        job = read_ai_toolkit(ai_toolkit, overrides or ())
        return job.config, job.name
    return config_from(preset, base, overrides), ""


def _plan_text(plan: TrainPlan) -> str:
    lines = [
        f"{plan.base} on {plan.device}, weights {plan.weights}",
        f"{plan.samples} samples, {plan.steps} steps of {plan.batch}: {plan.epochs:.1f} epochs",
    ]
    lines += [
        f"at {b.resolution}: {b.width}x{b.height}, {b.samples} samples of {b.tokens} tokens, "
        f"{b.micro_batch} at a time, {b.checkpoint_blocks:.0%} of the blocks recomputed"
        for b in plan.buckets
    ]
    lines.append(f"checkpoints at the end: {', '.join(map(str, plan.checkpoints))}")
    return "\n".join(lines)
