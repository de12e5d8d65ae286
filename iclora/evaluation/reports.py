"""Lookup of a store's reports, and of their verdict on promoting an adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from iclora.evaluation.controls import BASE
from iclora.evaluation.rule import rule_digest
from iclora.store import MANIFEST, Store
from schemas.evaluation import PromotionRule
from schemas.store_paths import report_path


def reports_on(store: Store, adapter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the folders and content of an adapter's reports.

    The content is plain JSON, because reports of earlier code versions are included.

    Args:
        store: store of the reports.
        adapter: name@version.
    """
    name = adapter.partition("@")[0]
    for version in store.listdir(report_path(name)):
        folder = report_path(name, version=version)
        if store.exists(f"{folder}/{MANIFEST}"):  # on an object store, else it is not complete yet
            report = json.loads(store.read(f"{folder}/report.json"))
            if report["adapter"] == adapter:
                yield folder, report


def promotion_objection(
    store: Store, adapter: str, champion: str, rule: PromotionRule, version: str = ""
) -> tuple[str, str]:
    """Finds the report that decides about an adapter, and its objection to promoting it.

    The newest report that compared it with the current champion by the current rule decides. Older
    comparisons do not cover the champion; other settings do not cover the rule.

    Args:
        store: store of the reports.
        adapter: name@version.
        champion: name@version of the current champion; empty if none.
        rule: current rule.
        version: version of the only report to consider; empty considers all.

    Returns:
        The report's version, empty if there is none, and the objection as a sentence, empty if the
        report promotes the adapter.
    """
    name, baseline = adapter.partition("@")[0], champion or BASE
    reports = list(reports_on(store, adapter))
    if version:
        only = report_path(name, version=version)
        reports = [(folder, report) for folder, report in reports if folder == only]
    retry = (
        f"evaluate it against {_display_name(baseline)} (`iclora evaluate {adapter} --promote`), "
        f"or promote it with --force"
    )
    if not reports:
        return "", f"{adapter} was never evaluated: {retry}"

    def modified(report: tuple[str, dict[str, Any]]) -> tuple[float, str]:
        manifest = store.path(f"{report[0]}/{MANIFEST}")
        return store.fs.modified(manifest).timestamp(), report[0]

    reports.sort(key=modified)
    comparable = [item for item in reports if not _mismatch(name, baseline, rule, item[1])]
    folder, report = (comparable or reports)[-1]
    version, refused = folder.rpartition("/")[2], report["decision"]["outcome"] == "refused"
    outcome = (
        f"{adapter} was {'refused' if refused else 'found better'} in comparison with "
        f"{_display_name(report['against'])}"
    )
    if not comparable:
        return version, f"{outcome}, but {_mismatch(name, baseline, rule, report)}: {retry}"
    if refused:
        reasons = " ".join(report["decision"]["reasons"])
        return version, f"{outcome}: {reasons} (--force promotes it all the same)"
    return version, ""


def _mismatch(name: str, baseline: str, rule: PromotionRule, report: dict[str, Any]) -> str:
    """Explains the reason a report does not count; empty if it does."""
    if report["against"] != baseline:
        return f"{name} has {'no champion' if baseline == BASE else f'the champion {baseline}'} now"
    if overrides := report.get("overrides"):
        return f"with settings that are not its rule's ({', '.join(overrides)})"
    if report.get("rule") != rule_digest(rule):
        return "by another rule than it has now"
    return ""


def _display_name(label: str) -> str:
    return "the base" if label == BASE else label
