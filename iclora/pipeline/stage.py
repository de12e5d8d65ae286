"""A stage is a function from artifact to artifact that is done once.

Its result lives in ``stages/<name>/<digest>/`` where the digest is taken over the stage's name and
version, its parameters and its inputs' digests; the manifest is written last, so a manifest that
is there means done. Thereby the command line, the tests and any orchestrator resume alike, a
changed parameter recomputes only what depends on it, and one more source costs one source.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from iclora.store import MANIFEST, Store
from schemas.base import Schema, digest_of
from schemas.stage import StageRef

log = logging.getLogger(__name__)

Result = TypeVar("Result", bound=Schema)


class Stage(NamedTuple):
    """A stage's name, and a version that is raised when its code gives other results."""

    name: str
    version: int


def run_stage(
    store: Store,
    stage: Stage,
    params: Schema,
    inputs: Sequence[str],
    work: Callable[[Path], Schema],
) -> StageRef:
    """Does a stage's work unless it is done.

    Args:
        store: store of the stages.
        stage: name and version.
        params: every setting that can change the result; fields marked ``Operational`` do not.
        inputs: digests of everything else that can.
        work: fills a folder and returns the manifest's content.

    Returns:
        The reference to the finished stage.
    """
    digest = digest_of([stage.name, stage.version, params.identity_json(), list(inputs)])
    ref = StageRef(stage=stage.name, digest=digest)
    if store.exists(f"{ref.path}/{MANIFEST}"):
        log.debug("%s %s is done already", stage.name, digest)
        return ref
    with store.atomic_folder(ref.path) as folder:
        result = work(folder)
        (folder / MANIFEST).write_text(result.to_text(), encoding="utf-8")
    log.info("%s %s done", stage.name, digest)
    return ref


def result_of(store: Store, ref: StageRef, kind: type[Result]) -> Result:
    """Reads a finished stage's manifest."""
    return kind.from_text(store.read(f"{ref.path}/{MANIFEST}"))


def file_of(store: Store, ref: StageRef, name: str) -> Path:
    """Returns a local file with the content of one of a finished stage's files."""
    return store.local_path(f"{ref.path}/{name}")
