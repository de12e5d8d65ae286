"""The reports in a store, and what they say about making an adapter the champion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from iclora.evaluation.controls import BASE
from iclora.evaluation.rule import rule_digest
from iclora.store import MANIFEST, Store
from schemas.evaluation import Rule


def report_folder(name: str, version: str) -> str:
    """The place of a report, below the store's root."""
    return f"reports/{name}/{version}"


def reports_on(store: Store, adapter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The folders of an adapter's reports and what they say.

    As plain JSON: reports of an earlier version of this code are among them.

    Args:
        store: where reports live.
        adapter: name@version.
    """
    name = adapter.partition("@")[0]
    for folder in (report_folder(name, version) for version in store.listdir(f"reports/{name}")):
        if store.exists(f"{folder}/{MANIFEST}"):  # on an object store, else it is not whole yet
            found = json.loads(store.read(f"{folder}/report.json"))
            if found["adapter"] == adapter:
                yield folder, found


class Standing(NamedTuple):
    """What the reports on an adapter say about making it the champion."""

    report: str
    """Version of the report that says it; empty if there is none."""

    objection: str
    """Why the adapter is not made the champion, in a sentence; empty if the report promotes it."""


def standing(store: Store, adapter: str, champion: str, rule: Rule, report: str = "") -> Standing:
    """Looks for the report that decides about an adapter.

    That is the newest one that compared it with the champion in force, by the rule in force. An
    older comparison says nothing about the champion, other settings nothing about the rule.

    Args:
        store: where reports live.
        adapter: name@version.
        champion: name@version of the one in force; empty if none.
        rule: the one in force.
        report: version of the only report that counts; empty is any.
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
    """Tells why a report does not count."""
    if said["against"] != baseline:
        return f"{name} has {'no champion' if baseline == BASE else f'the champion {baseline}'} now"
    if overrides := said.get("overrides"):
        return f"with settings that are not its rule's ({', '.join(overrides)})"
    return "by another rule than it has now"


def _spoken(label: str) -> str:
    return "the base" if label == BASE else label


def _written(store: Store, folder: str) -> float:
    """When a report was finished, in seconds."""
    return store.fs.modified(store.path(f"{folder}/{MANIFEST}")).timestamp()
