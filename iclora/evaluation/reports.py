"""Lookup of a store's reports, and of their verdict on promoting an adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from iclora.evaluation.controls import BASE
from iclora.evaluation.rule import rule_digest
from iclora.store import MANIFEST, Store
from schemas.evaluation import Rule
from schemas.store_paths import report_path


def report_folder(name: str, version: str) -> str:
    """Returns a report's folder relative to the store's root."""
    return report_path(name, version=version)


def reports_on(store: Store, adapter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the folders and content of an adapter's reports.

    Returns plain JSON, because reports of earlier code versions are included.

    Args:
        store: store of the reports.
        adapter: name@version.
    """
    name = adapter.partition("@")[0]
    for folder in (report_folder(name, version) for version in store.listdir(report_path(name))):
        if store.exists(f"{folder}/{MANIFEST}"):  # on an object store, else it is not whole yet
            found = json.loads(store.read(f"{folder}/report.json"))
            if found["adapter"] == adapter:
                yield folder, found


class Standing(NamedTuple):
    """Verdict of an adapter's reports on promoting it."""

    report: str
    """Version of the deciding report; empty if there is none."""

    objection: str
    """Reason against promotion, as a sentence; empty if the report promotes the adapter."""


def standing(store: Store, adapter: str, champion: str, rule: Rule, report: str = "") -> Standing:
    """Finds the report that decides about an adapter.

    The newest report that compared it with the current champion by the current rule decides. Older
    comparisons do not cover the champion; other settings do not cover the rule.

    Args:
        store: store of the reports.
        adapter: name@version.
        champion: name@version of the current champion; empty if none.
        rule: current rule.
        report: version of the only report to consider; empty considers all.
    """
    name, baseline = adapter.partition("@")[0], champion or BASE
    found = sorted(reports_on(store, adapter), key=lambda one: (_written(store, one[0]), one[0]))
    if report:
        found = [one for one in found if one[0] == report_folder(name, report)]
    again = f"evaluate it against {_spoken(baseline)} (`iclora evaluate {adapter} --promote`)"
    if not found:
        return Standing("", f"{adapter} was never evaluated: {again}, or promote it with --force")
    counting = [
        one
        for one in found
        if one[1]["against"] == baseline
        and not one[1].get("overrides")
        and one[1].get("rule") == rule_digest(rule)
    ]
    folder, said = (counting or found)[-1]
    version, refused = folder.rpartition("/")[2], said["decision"]["outcome"] == "refused"
    start = f"{adapter} was {'refused' if refused else 'found better'} in comparison with "
    start += _spoken(said["against"])
    if not counting:
        why = _why_not(name, baseline, said)
        return Standing(version, f"{start}, but {why}: {again}, or promote it with --force")
    if refused:
        reasons = " ".join(said["decision"]["reasons"])
        return Standing(version, f"{start}: {reasons} (--force promotes it all the same)")
    return Standing(version, "")


def _why_not(name: str, baseline: str, said: dict[str, Any]) -> str:
    """Explains the reason a report does not count."""
    if said["against"] != baseline:
        return f"{name} has {'no champion' if baseline == BASE else f'the champion {baseline}'} now"
    if overrides := said.get("overrides"):
        return f"with settings that are not its rule's ({', '.join(overrides)})"
    return "by another rule than it has now"


def _spoken(label: str) -> str:
    return "the base" if label == BASE else label


def _written(store: Store, folder: str) -> float:
    """Returns a report's completion time as a Unix timestamp in seconds."""
    return store.fs.modified(store.path(f"{folder}/{MANIFEST}")).timestamp()
