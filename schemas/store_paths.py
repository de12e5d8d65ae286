"""Paths of artifacts in a store, relative to its root."""

from __future__ import annotations


def dataset_path(name: str, file: str = "", *, version: str = "") -> str:
    """Returns a dataset's folder, or a version's, or a file's in either."""
    return _join("datasets", name, version, file)


def adapter_path(name: str, file: str = "", *, version: str = "") -> str:
    """Returns an adapter's folder, or a version's, or a file's in either."""
    return _join("adapters", name, version, file)


def report_path(name: str, file: str = "", *, version: str = "") -> str:
    """Returns the folder of an adapter's reports, or a report's, or a file's in either."""
    return _join("reports", name, version, file)


def stage_path(stage: str, file: str = "", *, digest: str = "") -> str:
    """Returns a stage's folder, or a result's, or a file's in either."""
    return _join("stages", stage, digest, file)


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
