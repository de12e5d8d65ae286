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

from iclora.pipeline.stage import folder_of, result_of
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
    places = [*_unused_stages(store), *(REBUILT if caches else ())]
    places = [place for place in places if store.exists(place)]
    scratch = list(_leftovers(store))
    size = sum(cast("int", store.fs.du(store.path(place))) for place in places)
    size += sum(file.stat().st_size for path in scratch for file in _files(path))
    if not dry_run:
        for place in places:
            _remove(store, place)
        for path in scratch:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return RemovedFiles((*places, *(str(path) for path in scratch)), size)


def _unused_stages(store: Store) -> Iterator[str]:
    live, frames = set[str](), set[str]()
    for ref, made in _published(store):
        live |= {folder_of(ref), folder_of(made.chosen)}
        for stages in made.stages:
            live |= {folder_of(StageRef.from_json(one)) for one in stages.to_json().values()}
            ingested = result_of(store, stages.ingested, Ingested)
            given = (frame for one in ingested.given for frame in one.frames)
            frames |= {frame.id for frame in (*ingested.frames, *given)}
    for stage in store.listdir("stages"):
        for digest in store.listdir(stage_path(stage)):
            ref = StageRef(stage=stage, digest=digest)
            if folder_of(ref) not in live and not _measures(store, ref, frames):
                yield folder_of(ref)


def _published(store: Store) -> Iterator[tuple[StageRef, Published]]:
    """Yields the publish stages whose dataset version still exists."""
    for digest in store.listdir(stage_path(_PUBLISH)):
        ref = StageRef(stage=_PUBLISH, digest=digest)
        if store.exists(f"{folder_of(ref)}/{MANIFEST}"):
            made = result_of(store, ref, Published)
            if store.exists(dataset_path(made.name, MANIFEST, version=made.version)):
                yield ref, made


def _measures(store: Store, ref: StageRef, frames: set[str]) -> bool:
    """Checks that a stage holds measurements of any of these frames."""
    if ref.stage != _MEASURE or not store.exists(f"{folder_of(ref)}/{MANIFEST}"):
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


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _remove(store: Store, place: str) -> None:
    """Removes a folder, manifest first, so a partial stage never looks complete."""
    manifest = store.path(f"{place}/{MANIFEST}")
    if store.fs.exists(manifest):
        store.fs.rm(manifest)
    store.fs.rm(store.path(place), recursive=True)
