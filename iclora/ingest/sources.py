"""Source resolution: determines the kind, content digest and rights of each user-named location.

A folder of films yields one source per film. A folder of pictures, nested or flat, yields one
source whose subfolders are scenes. Unreadable sources, reserved sources and files that must not be
opened (see ``inside``) receive a verdict, and resolution continues with the rest. Only a missing
location raises an error, because it is most likely a typo.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadInput
from iclora.ingest.download import (
    UNREADABLE,
    default_work_folder,
    digest_source,
    is_folder,
    is_url,
    list_at,
    public_name,
    read_small_file,
    without_scheme,
)
from iclora.ingest.file_types import media_fault
from iclora.ingest.inside import check_name, printable
from iclora.ingest.readers import kind_of_file, load_reader, load_readers, separate_kind
from iclora.ingest.result import UnreadableInput
from iclora.ingest.sidecar import parse_sidecar
from iclora.redact import redact_url
from schemas.ingest import IngestParams
from schemas.source import Licence, Source
from schemas.verdict import Verdict

log = logging.getLogger(__name__)

MAX_CONCURRENT = 8
"""Maximum number of sources copied and digested concurrently; object stores need parallel reads."""


class SourceCandidate(NamedTuple):
    """A location that may be a source."""

    url: str
    """Value for ``Source.url``."""

    name: str
    """Name relative to the user-given location."""

    kind: str
    files: tuple[str, ...] = ()
    """Files whose bytes make up the content of a folder."""

    sidecars: tuple[str, ...] = ()
    """Candidate sidecar locations, nearest first."""

    folder: str = ""
    """Folder that contains the candidate; empty if the user named the candidate directly."""


def resolve_sources(
    locations: Sequence[str], params: IngestParams, work: Path | None = None
) -> tuple[tuple[Source, ...], tuple[Verdict, ...]]:
    """Resolves locations to sources.

    Args:
        locations: Films, folders, archives, shards (``{000000..000009}.tar``), URLs or hub ids.
        params: Ingest parameters.
        work: Folder for copies of remote sources. Defaults to ``ICLORA_WORK``, else a temporary
            folder.

    Returns:
        The sources to ingest, and one verdict (stage ``sources``) per candidate.

    Raises:
        BadInput: A location does not exist, or no location contains a source.
    """
    candidates = [item for location in locations for item in _candidates_at(location)]
    inspect = partial(_inspect, params=params, work=work or default_work_folder())
    sources: dict[tuple[str, str], Source] = {}
    verdicts: list[Verdict] = []
    names: Counter[str] = Counter()
    pool = ThreadPoolExecutor(MAX_CONCURRENT, "iclora-sources")
    try:
        for inspected in pool.map(inspect, candidates):  # in order, up to the first error
            verdict = inspected if isinstance(inspected, Verdict) else _add(inspected, sources)
            names[verdict.source] += 1
            if (number := names[verdict.source]) > 1:
                verdict = verdict.model_copy(update={"id": f"{verdict.id}#{number}"})
            verdicts.append(verdict)
    finally:
        pool.shutdown(cancel_futures=True)
    if not verdicts:
        listed = ", ".join(redact_url(location) for location in locations)
        raise BadInput(f"there is no film, picture or archive in {listed}")
    return tuple(sources.values()), tuple(verdicts)


def _inspect(
    candidate: SourceCandidate | Verdict, params: IngestParams, work: Path
) -> Source | Verdict:
    """Reads the rights of a candidate and digests it, or returns the verdict that excludes it."""
    if isinstance(candidate, Verdict):
        return candidate
    url, name, kind, files, *_ = candidate
    try:
        rights = _rights_of(candidate)
        # Checked before any content is copied or read.
        if rights.opt_out and not params.allow_opt_out:
            detail = f"reserved by {', '.join(rights.opt_out)}; ingest.allow_opt_out overrides"
            return Verdict.rejected("sources", name, "opt_out", detail, source=name)
        content = (load_reader(kind).digest or digest_source)(url, files, work)
    except UnreadableInput as why:
        return why.verdict("sources", name, name)
    except BadInput as error:
        if not candidate.folder:
            raise
        return Verdict.failed("sources", name, UNREADABLE, str(error), source=name)
    return Source(url=url, name=f"{name}@{content}", kind=kind, content=content, rights=rights)


def _add(source: Source, sources: dict[tuple[str, str], Source]) -> Verdict:
    """Adds a source unless it duplicates an earlier one of its kind."""
    name = source.name
    earlier = sources.setdefault((source.kind, source.content), source)
    if earlier is not source:
        detail = f"the same as {earlier.name}"
        return Verdict.rejected("sources", name, "duplicate_source", detail, source=name)
    if source.rights.licence == "unknown":
        sidecar = name.removesuffix(f"@{source.content}")
        log.warning("%s: its licence is unknown; %s.toml can state it", name, sidecar)
    return Verdict.kept("sources", name, source=name)


def _rights_of(candidate: SourceCandidate) -> Licence:
    for sidecar in candidate.sidecars:
        inside = candidate.folder and sidecar.startswith(f"{candidate.folder}/")
        text = read_small_file(sidecar, candidate.folder if inside else "")
        if text is not None:
            return parse_sidecar(text, public_name(sidecar))
    return Licence()


def _candidates_at(location: str) -> Iterator[SourceCandidate | Verdict]:
    """Yields the candidates at one location, or a failed verdict if it cannot be reached."""
    location = without_scheme(location)
    remote = is_url(location)
    if not remote:
        location = os.path.expanduser(location)  # noqa: PTH111 - raises nothing
    addressed = (
        kind for kind, reader in load_readers().items() if reader.matches_address(location)
    )
    try:
        check_name(location)
        name = public_name(location) if remote else location.rsplit("/", 1)[-1]
        if kind := next(addressed, None):
            yield SourceCandidate(location, name, kind)
        elif is_folder(location):
            yield from _candidates_in(location.rstrip("/"))
        elif remote or Path(location).exists():
            # Unknown suffixes count as film, since FFmpeg probes.
            kind = kind_of_file(name.partition("?")[0] if remote else name) or "film"
            yield SourceCandidate(location, name, kind, (), _sidecars(location))
        else:
            raise BadInput(f"{location} does not exist (nor is it a Hugging Face dataset id)")
    except UnreadableInput as why:
        shown = printable(public_name(location))
        yield why.verdict("sources", shown, shown)


def _candidates_in(folder: str) -> Iterator[SourceCandidate | Verdict]:
    """Yields the candidates in a folder: its films and archives, then groups of its files."""
    remote = is_url(folder)
    own = public_name(folder) if remote else Path(folder).resolve().name
    above = _sidecars(folder if remote else str(Path(folder).resolve()))[:1]
    try:
        files, refused = list_at(folder)
    except UnreadableInput as why:
        yield why.verdict("sources", own, own)
        return
    for name, why in refused:
        yield Verdict.rejected("sources", name, why.reason, str(why), source=name)
    readers = load_readers().items()
    groups = {kind: tuple(reader.select(files)) for kind, reader in readers if reader.select}
    claimed = [kind for kind, group in groups.items() if len(group) == len(files)]
    if not claimed:
        for name in files:
            if kind := separate_kind(name):
                url = f"{folder}/{name}"
                yield SourceCandidate(url, name, kind, (), (*_sidecars(url), *above), folder)
        grouped = {name for group in groups.values() for name in group}
        for name in files:
            if name in grouped or kind_of_file(name):
                continue
            if fault := media_fault(name, None if remote else Path(folder)):
                yield Verdict.rejected("sources", name, "unknown_format", fault, source=name)
    # The order of sources is part of a dataset: shards, pictures, captioned canvases.
    for kind in claimed[:1] or sorted(groups, reverse=True):
        group = groups[kind]
        shared = any(set(group) < set(other) for other in groups.values())  # pictures of a dataset
        if group and not shared:
            yield SourceCandidate(folder, own, kind, group, above, folder)


def _sidecars(location: str) -> tuple[str, ...]:
    """Returns the sidecar paths ``film.mp4.toml`` and ``film.toml``; keeps a URL query last."""
    file, mark, query = location.partition("?") if is_url(location) else (location, "", "")
    folder, _, name = file.rpartition("/")
    stem = name.rsplit(".", 1)[0]
    sidecars = (f"{n}.toml{mark}{query}" for n in dict.fromkeys((name, stem)))
    return tuple(f"{folder}/{n}" if folder else n for n in sidecars)
