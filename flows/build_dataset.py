"""Raw footage to a verified dataset version."""

from __future__ import annotations

from typing import Any

from prefect import flow, tags

from schemas.dataset import DatasetRef
from tasks import build, prefect_defaults, report


@flow(
    name="build-dataset", flow_run_name="build {name}", task_runner=prefect_defaults.task_runner()
)
def build_dataset(
    sources: list[str] = [],  # noqa: B006 - never changed, and the UI's form shows a list
    preset: str = "",
    base: str = "",
    name: str = "demo",
    store: str = "",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed either
    review: str = "",
) -> DatasetRef:
    """Turns films, folders, archives and datasets of pictures into captioned, verified shards.

    Args:
        sources: Films, folders of pictures, archives, URLs or hub ids, one per entry, in any mix.
            If empty, the demo's films are rendered and used.
        preset: Task (`movie-shots`, …), or your own TOML file. Empty with no `sources` is the demo,
            with the small models in the package; footage of your own asks for a preset.
        base: Base model that the task is for (`flux1-dev`, …). Empty if `preset` names one itself.
        name: Name of the dataset. A build that finds something new adds a version to it.
        store: Folder or URL (`s3://bucket/prefix`) of the store. Defaults to the environment's
            ICLORA_STORE, else `./store`.
        overrides: Settings over the preset, by dotted key, such as `{"filter.max_sets": 50}`;
            docs/config.md lists them all.
        review: A `review.csv` that `iclora review` wrote and a person filled in (optional).
    """
    job = build.plan_build(sources, preset, base, name, store, overrides, review)
    result = build.run_build(job)
    report.show_dataset(result, job)
    return result.dataset


if __name__ == "__main__":
    with tags(prefect_defaults.TAG):
        build_dataset()
