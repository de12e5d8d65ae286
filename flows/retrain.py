"""New footage to a better adapter, or the news that there is nothing to do."""

from __future__ import annotations

from prefect import flow, tags

from flows.build_dataset import build_dataset
from flows.evaluate_adapter import evaluate_adapter
from flows.train_adapter import train_adapter
from tasks import approval, lineage
from tasks.prefect_defaults import GPU, TAG


@flow(name="retrain", flow_run_name="retrain {name}")
def retrain(
    sources: list[str] = [],  # noqa: B006 - never changed, and the UI's form shows a list
    preset: str = "",
    base: str = "",
    name: str = "demo",
    store: str = "",
    approve: bool = False,  # noqa: FBT001, FBT002 - a switch in the UI's form
) -> str:
    """Builds, trains, evaluates and promotes; ends in seconds when no footage is new.

    Args:
        sources: Films, folders, buckets or hub ids, one per entry. Footage that was added to a
            folder since the last run is found, and only it is processed. If empty, the demo's
            films are rendered and used.
        preset: Task (`movie-shots`, …), or your own TOML file. Empty with no `sources` is the demo,
            with the small models in the package; footage of your own asks for a preset.
        base: Base model that the task is for (`flux1-dev`, …). Empty if `preset` names one itself.
        name: Name of the dataset and the adapter.
        store: Folder or URL (`s3://bucket/prefix`) of the store. Defaults to the environment's
            ICLORA_STORE, else `./store`.
        approve: Wait for a person, who is shown the sheets, before a better adapter is promoted;
            otherwise it is promoted at once.
    """
    with tags(TAG):
        dataset = build_dataset(sources, preset, base, name, store)
    version = f"{name}@{dataset.version}"
    if lineage.is_settled(version, name, store, approve=approve):
        return lineage.say_nothing_new(version, name, store)
    with tags(TAG, GPU):
        adapter = train_adapter(version, preset, base, name, store)
        trained = f"{name}@{adapter.version}"
        report = evaluate_adapter(trained, "", version, store, promote=not approve)
    if approve:
        report = approval.ask_and_promote(trained, report, store)
    return lineage.show_outcome(trained, report, store)


if __name__ == "__main__":
    with tags(TAG):
        retrain()
