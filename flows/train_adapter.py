"""A dataset version to an adapter."""

from __future__ import annotations

from typing import Any

from prefect import flow, tags

from schemas.adapter import AdapterRef
from tasks import report, training
from tasks.prefect_defaults import GPU, TAG


@flow(name="train-adapter", flow_run_name="train {name}")
def train_adapter(
    dataset: str = "demo",
    preset: str = "",
    base: str = "",
    name: str = "demo",
    store: str = "",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed, and the UI's form shows a table
) -> AdapterRef:
    """Trains an In-Context LoRA on a dataset version.

    Args:
        dataset: A dataset's name (its latest version), `name@version`, a folder or a URL.
        preset: Task (`movie-shots`, …), or your own TOML file. Empty is the small model in the
            package, for a dataset that was built with it (the demo's) and no other.
        base: Base model that is trained (`flux1-dev`, …). Empty if `preset` names one itself.
        name: Name of the adapter. Each new combination of data and settings is a version; the same
            one again is found done, or resumes where it was stopped.
        store: Folder or URL (`s3://bucket/prefix`) of the store. Defaults to the environment's
            ICLORA_STORE, else `./store`.
        overrides: Settings over the preset, by dotted key, such as `{"train.steps": 2000}`;
            docs/config.md lists them all.
    """
    job = training.plan_training(dataset, preset, base, name, store, overrides)
    adapter = training.train(job)
    report.show_adapter(adapter, job)
    return adapter


if __name__ == "__main__":
    with tags(TAG, GPU):
        train_adapter()
