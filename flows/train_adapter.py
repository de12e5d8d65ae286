"""A dataset version to an adapter."""

from __future__ import annotations

from typing import Any

from prefect import flow

from schemas.adapter import AdapterRef
from tasks import report, training


@flow(name="train-adapter", flow_run_name="train {name}")
def train_adapter(
    dataset: str = "demo",
    preset: str = "miniature",
    name: str = "demo",
    store: str = "./store",
    overrides: dict[str, Any] | None = None,
) -> AdapterRef:
    """Trains an In-Context LoRA on a dataset version.

    Args:
        dataset: a dataset's name (latest), name@version, folder or URL.
        preset: a preset's name, or a TOML file.
        name: of the adapter; each new combination of data and settings is a version.
        store: folder or URL where everything is kept.
        overrides: dotted keys and values over the preset, such as {"train.steps": 2000}.
    """
    job = training.plan_training(dataset, preset, name, store, overrides or {})
    adapter = training.train(job)
    report.show_adapter(adapter, job)
    return adapter


if __name__ == "__main__":
    train_adapter()
