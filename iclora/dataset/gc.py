"""Garbage collection of a store: stages unused by any dataset, and leftovers of killed runs.

A stage is kept if the publish stage of an existing dataset version references it, directly or (for
measurements, which are batched) through its frames. Captioner answers cost money and are never
removed. Encoded latents and texts are rebuilt when missing, so they are removed only on request.
Do not run it during a build: the build's stages appear unused until it publishes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from iclora.pipeline.stage import result_of
from iclora.store import MANIFEST, Store
from schemas.dataset import Published
from schemas.stage import Ingested, MeasuredBatch, StageRef
from schemas.store_paths import dataset_path, stage_path

REBUILT = ("cache/latents", "cache/text")
"""Caches that training rebuilds on demand."""

_PUBLISH, _MEASURE = "publish", "measure"
_SCRATCH = re.compile(r"(stages|datasets|dataset)-.+\.\w{8}")
"""Name pattern of unfinished folders in the work folder."""


class RemovedFiles(NamedTuple):
    """Files removed, or to be removed in a dry run."""

    paths: tuple[str, ...]
    size: int
    """Total size in bytes."""


def collect_garbage(store: Store, *, caches: bool = False, dry_run: bool = False) -> RemovedFiles:
    """Removes everything that is not referenced.

    Args:
        store: store to clean.
        caches: removes latents and text embeddings too.
        dry_run: reports removals without performing them.
    """
    folders = [*_unused_stages(store), *(REBUILT if caches else ())]
    folders = [folder for folder in folders if store.exists(folder)]
    leftovers = list(_leftovers(store))
    size = sum(cast("int", store.fs.du(store.path(folder))) for folder in folders)
    for path in leftovers:
        files = path.rglob("*") if path.is_dir() else [path]
        size += sum(file.stat().st_size for file in files if file.is_file())
    if not dry_run:
        for folder in folders:
            # Manifest first, so a partial stage never looks complete.
            store.remove(f"{folder}/{MANIFEST}")
            store.remove(folder)
        for path in leftovers:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return RemovedFiles((*folders, *map(str, leftovers)), size)


def _unused_stages(store: Store) -> Iterator[str]:
    used, frames = set[str](), set[str]()
    for digest in store.listdir(stage_path(_PUBLISH)):
        ref = StageRef(stage=_PUBLISH, digest=digest)
        if not store.exists(f"{ref.path}/{MANIFEST}"):
            continue
        published = result_of(store, ref, Published)
        if not store.exists(dataset_path(published.name, MANIFEST, version=published.version)):
            continue
        used |= {ref.path, published.chosen.path}
        for stages in published.stages:
            used |= {StageRef.from_json(value).path for value in stages.to_json().values()}
            ingested = result_of(store, stages.ingested, Ingested)
            given = (frame for image_set in ingested.given for frame in image_set.frames)
            frames |= {frame.id for frame in (*ingested.frames, *given)}
    for stage in store.listdir("stages"):
        for digest in store.listdir(stage_path(stage)):
            ref = StageRef(stage=stage, digest=digest)
            if ref.path not in used and not _measures(store, ref, frames):
                yield ref.path


def _measures(store: Store, ref: StageRef, frames: set[str]) -> bool:
    """Checks that a stage holds measurements of any of these frames."""
    if ref.stage != _MEASURE or not store.exists(f"{ref.path}/{MANIFEST}"):
        return False
    measured = result_of(store, ref, MeasuredBatch)
    return not frames.isdisjoint({*measured.frames, *measured.unreadable})


def _leftovers(store: Store) -> Iterator[Path]:
    """Yields scratch folders and files of killed processes, and copies from an object store."""
    copies = store.work_folder / "copies"  # where ``Store.local_path`` keeps them
    if copies.is_dir():
        yield copies
    if store.work_folder.is_dir():
        yield from (
            path for path in sorted(store.work_folder.iterdir()) if _SCRATCH.fullmatch(path.name)
        )
    if store.is_local:
        yield from sorted(Path(store.root).rglob(".*.tmp"))
