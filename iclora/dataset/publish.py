"""Publishing of a dataset version: shards, tables, index, preview, card, and the manifest last.

A version is assembled in a scratch folder, named by the digest of its content, and moved into place
as a whole; LATEST moves only afterwards. Readers therefore never find a partial dataset, and LATEST
always names an existing one. Publishing is a stage: it runs once for the same inputs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from iclora.dataset.assemble import assemble
from iclora.dataset.collect import BuildContents, collect
from iclora.dataset.dataset_plan import DatasetPlan, make_plan
from iclora.dataset.provenance import all_of_film_world
from iclora.dataset.reader import LATEST
from iclora.names import check_name
from iclora.pipeline.ledger import stop_if_failing
from iclora.pipeline.stage import Stage, result_of, run_stage
from iclora.store import MANIFEST, Store
from schemas.base import digest_of
from schemas.config import Config
from schemas.dataset import BuildConfig, DatasetRef, Published, ReviewLine
from schemas.source import Source
from schemas.stage import SourceStages, StageRef
from schemas.store_paths import dataset_path
from schemas.verdict import Verdict

log = logging.getLogger(__name__)

STAGE = Stage("publish", 1)


def publish_dataset(
    store: Store,
    name: str,
    config: Config,
    *,
    sources: Sequence[Source],
    refused: Sequence[Verdict],
    stages: Sequence[SourceStages],
    chosen: StageRef,
    review: Sequence[ReviewLine] = (),
) -> DatasetRef:
    """Writes a dataset version unless it exists, and moves LATEST to it.

    Args:
        store: store of the stages and of the dataset.
        name: name of the dataset.
        config: configuration of the build.
        sources: ingested sources.
        refused: verdicts on locations and sources; the kept ones are ignored.
        stages: the build's stages per source, in the order of ``sources``.
        chosen: the sets of the whole build.
        review: manual choices from ``review.csv``.

    Raises:
        BadConfig: the name is invalid.
        BadInput: no sample was kept; the message explains why.
        BuildStopped: a ledger does not add up, or too large a share of a stage failed.
    """
    check_name(name, "a dataset")
    order = sorted(range(len(sources)), key=lambda number: sources[number].name)
    sources = [sources[number] for number in order]
    stages = [stages[number] for number in order]
    refused = sorted(refused, key=lambda verdict: verdict.id)

    def work(_folder: Path) -> Published:
        by_key = {line.key: line for line in review}
        contents = collect(store, sources, refused, stages, chosen, by_key)
        _note_unknown(review, contents)
        failed = [one for one in contents.rejects if one.stage == "shard"]
        stop_if_failing("shard", failed, contents.ledger["shard"], config.ingest.max_failed_share)
        version, samples = _write_version(store, make_plan(name, config, sources, contents))
        return Published(
            name=name, version=version, samples=samples, chosen=chosen, stages=tuple(stages)
        )

    data = BuildConfig.of(config)
    facts = [source.model_copy(update={"url": ""}) for source in sources]
    given = (facts, refused, stages, review)
    inputs = [name, chosen.digest, str(all_of_film_world(sources))]
    inputs += [digest_of([one.to_json() for one in items]) for items in given]
    published = result_of(store, run_stage(store, STAGE, [data], inputs, work), Published)
    if not store.exists(f"{folder_of_version(name, published.version)}/{MANIFEST}"):
        work(store.work_folder)  # a person removed the version but not the record of it
    store.write(dataset_path(name, LATEST), f"{published.version}\n".encode())
    return DatasetRef(
        name=name,
        version=published.version,
        samples=published.samples,
        url=store.address(folder_of_version(name, published.version)),
    )


def folder_of_version(name: str, version: str) -> str:
    """Returns a dataset version's folder relative to the store's root."""
    return dataset_path(name, version=version)


def _write_version(store: Store, plan: DatasetPlan) -> tuple[str, int]:
    """Assembles the folder and moves it into place; returns version and number of samples."""
    with store.scratch_folder(f"dataset-{plan.name}") as scratch:
        manifest = assemble(store, plan, scratch)
        with store.atomic_folder(folder_of_version(plan.name, manifest.version)) as folder:
            for file in sorted(scratch.iterdir()):
                file.rename(folder / file.name)
            (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
    log.info("%s@%s: %d samples", plan.name, manifest.version, manifest.samples)
    return manifest.version, manifest.samples


def _note_unknown(review: Sequence[ReviewLine], contents: BuildContents) -> None:
    known = {entry.canvas.key for entry in contents.entries}
    known |= {verdict.id for verdict in contents.rejects}
    strangers = [line.key for line in review if line.key not in known]
    if strangers:
        log.warning("%d reviewed sets are no longer there, first %s", len(strangers), strangers[0])
