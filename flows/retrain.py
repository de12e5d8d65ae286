"""New footage to a better adapter, or the news that there is nothing to do."""

from __future__ import annotations

from prefect import flow

from flows.build_dataset import build_dataset
from flows.evaluate_adapter import evaluate_adapter
from flows.train_adapter import train_adapter
from tasks import approval, lineage


@flow(name="retrain", flow_run_name="retrain {name}")
def retrain(
    sources: list[str] | None = None,
    preset: str = "miniature",
    name: str = "demo",
    store: str = "./store",
    approve: bool = False,  # noqa: FBT001, FBT002 - a switch in the UI's form
) -> str:
    """Builds, trains, evaluates and promotes; ends in seconds when no footage is new.

    Args:
        sources: files, folders, URLs or hub ids; empty renders and uses the demo's films.
        preset: a preset's name, or a TOML file.
        name: of the dataset and of the adapter.
        store: folder or URL where everything is kept.
        approve: wait for a person, with the sheets, before an adapter is promoted.
    """
    dataset = build_dataset(sources, preset, name, store)
    version = f"{name}@{dataset.version}"
    if lineage.is_settled(version, name, store):
        return lineage.say_nothing_new(version)
    adapter = train_adapter(version, preset, name, store)
    trained = f"{name}@{adapter.version}"
    report = evaluate_adapter(trained, "", version, store, promote=not approve)
    if approve:
        approval.ask_and_promote(trained, report, store)
    return lineage.show_chain(dataset, adapter, report, store)


if __name__ == "__main__":
    retrain()
