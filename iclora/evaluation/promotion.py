"""Promotion and rollback of CHAMPION, the adapter version used in production.

``adapters/<name>/CHAMPION`` is one line. ``CHAMPIONS`` lists all champions, oldest first and the
current one last; ``HISTORY.jsonl`` lists every change.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from iclora.errors import BadInput
from iclora.evaluation.reports import promotion_objection
from iclora.evaluation.rule import RULE, differing, pinned_rule, rule_digest, rule_of
from iclora.locks import file_lock
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.evaluation import HistoryEntry, PromotionRule
from schemas.store_paths import adapter_path

log = logging.getLogger(__name__)

HISTORY = "HISTORY.jsonl"


def champion_of(store: Store, name: str) -> str:
    """Returns the champion's version, or an empty string."""
    path = adapter_path(name, "CHAMPION")
    return store.read(path).decode().strip() if store.exists(path) else ""


def promote(store: Store, name: str, version: str, *, report: str = "", force: bool = False) -> str:
    """Promotes a version to champion; no-op if it already is.

    The report must have compared it with the current champion. The first promotion pins the rule.

    Args:
        store: store of adapters and reports.
        name: name of the adapter.
        version: version to promote.
        report: version of the report that promotes it; empty is the newest one that compared it
            with the current champion by the current rule.
        force: ignores the reports.

    Returns:
        The champion's version.

    Raises:
        BadInput: the store has no such version, or no report promotes it over the current champion;
            the message says what to do.
    """
    record = adapter_path(name, "run.json", version=version)
    if not store.exists(record):
        raise BadInput(
            f"{store.address(adapter_path(name, version=version))} is not a finished adapter; "
            f"`iclora inspect` lists the versions of {name}"
        )
    with _lock(store, name):
        before = champion_of(store, name)
        if version == before:
            return version
        rule = rule_of(store, name, before, RunRecord.from_text(store.read(record)))
        baseline = f"{name}@{before}" if before else ""
        report, objection = promotion_objection(store, f"{name}@{version}", baseline, rule, report)
        if objection and not force:
            raise BadInput(objection)
        # An object store has no lock for all machines, and reading the reports took a while.
        if champion_of(store, name) != before:
            raise BadInput(f"the champion of {name} changed just now: promote {version} again")
        if not store.exists(adapter_path(name, RULE)):
            store.write(adapter_path(name, RULE), rule.to_text().encode())
        # CHAMPION moves last: after a crash before that it is still correct, and the next move
        # drops the entry after it.
        _write_champions(store, name, [*_champions(store, name), version])
        entry = HistoryEntry(
            when=_now(),
            change="forced" if objection else "promoted",
            before=before,
            champion=version,
            report=report,
            rule=rule_digest(rule),
        )
        _append_history(store, name, entry)
        store.write(adapter_path(name, "CHAMPION"), f"{version}\n".encode())
        if objection:
            log.warning("promoted by force: %s", objection)
        log.info("champion of %s: %s", name, version)
    return version


def undo(store: Store, name: str) -> str:
    """Restores the previous champion.

    Returns:
        The champion's version now, or an empty string if there was no previous one.

    Raises:
        BadInput: there is no champion.
    """
    no_champion = BadInput(f"{name} has no champion in {store.url}: nothing to undo")
    if not champion_of(store, name):  # the lock would make the folder of a misspelled name
        raise no_champion
    with _lock(store, name):
        champions = _champions(store, name)
        if not champions:
            raise no_champion
        before = champions[-2] if champions[:-1] else ""
        path = adapter_path(name, "CHAMPION")
        entry = HistoryEntry(when=_now(), change="undone", before=champions[-1], champion=before)
        _append_history(store, name, entry)
        if before:
            store.write(path, f"{before}\n".encode())
        else:
            store.fs.rm(store.path(path))
        _write_champions(store, name, champions[:-1])  # last, so it always has the champion
        log.info("champion of %s: %s", name, before or "none")
    return before


def pin_rule(store: Store, name: str, rule: PromotionRule) -> None:
    """Pins a rule as the promotion rule for adapters of a name.

    Raises:
        BadInput: the pinned rule cannot be read.
    """
    with _lock(store, name):
        old = pinned_rule(store, name)
        if old == rule:
            return
        champion = champion_of(store, name)
        entry = HistoryEntry(
            when=_now(), change="rule", before=champion, champion=champion, rule=rule_digest(rule)
        )
        _append_history(store, name, entry)
        store.write(adapter_path(name, RULE), rule.to_text().encode())
        changed = ", ".join(differing(old, rule)) or "nothing that decides" if old else ""
        log.warning("the rule of %s %s", name, f"changed: {changed}" if old else "is pinned now")


@contextmanager
def _lock(store: Store, name: str) -> Generator[None]:
    """Locks this CHAMPION against concurrent moves.

    A local store's lock holds for every process with access to the folder, an object store's only
    for the processes on this machine.
    """
    folder = store.work_folder / "locks" / name
    if store.is_local:
        folder = Path(store.path(adapter_path(name)))
    with file_lock(folder / ".lock", f"the promotion of {name}"):
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _append_history(store: Store, name: str, entry: HistoryEntry) -> None:
    path = adapter_path(name, HISTORY)
    lines = store.read(path) if store.exists(path) else b""
    store.write(path, lines + json.dumps(entry.to_json(), sort_keys=True).encode() + b"\n")


def _champions(store: Store, name: str) -> list[str]:
    """Returns all champions so far, ending with the current one."""
    path = adapter_path(name, "CHAMPIONS")
    versions = store.read(path).decode().split() if store.exists(path) else []
    current = champion_of(store, name)
    if not current:
        return []
    if current not in versions:  # CHAMPION was written by hand
        return [*versions, current]
    return versions[: len(versions) - versions[::-1].index(current)]


def _write_champions(store: Store, name: str, versions: list[str]) -> None:
    text = "".join(f"{version}\n" for version in versions)
    store.write(adapter_path(name, "CHAMPIONS"), text.encode())
