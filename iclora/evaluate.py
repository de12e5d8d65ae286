"""Evaluation and promotion of a store's adapters, as the command line and the flows do it.

This module imports nothing heavy, which keeps both fast; ``iclora.evaluation`` does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iclora.errors import BadInput
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.config import Config
from schemas.evaluation import EvaluationReport, ReportRef

if TYPE_CHECKING:
    from iclora.sampling.adapters import StoredAdapter


def evaluation_config(store: Store, adapter: str, *, repin: bool = False) -> Config:
    """Returns the configuration that decides about an adapter.

    Args:
        store: store of the adapter.
        adapter: ``name``, ``name@version`` or ``name@champion``.
        repin: takes the settings of the adapter's own run in place of its name's rule.

    Raises:
        BadInput: the store has no such adapter.
    """
    from iclora.evaluation.plan import measured_by

    stored = _find(store, adapter)
    if repin:
        return RunRecord.from_text(store.read(f"{stored.folder}/run.json")).config
    return measured_by(store, stored)


def promote_adapter(store: Store, adapter: str, *, force: bool = False) -> str:
    """Makes an adapter the champion, if a report promotes it over the current one.

    Args:
        store: store of the adapter.
        adapter: ``name``, ``name@version`` or ``name@champion``.
        force: ignores the reports.

    Returns:
        The champion's version.

    Raises:
        BadInput: the store has no such adapter, or no report promotes it; the message says what to
            evaluate.
    """
    from iclora.evaluation.promotion import promote

    stored = _find(store, adapter)
    return promote(store, stored.name, stored.version, force=force)


def read_report(store: Store, ref: ReportRef) -> EvaluationReport:
    """Reads a report from the store."""
    return EvaluationReport.from_text(store.read(f"{ref.path}/report.json"))


def _find(store: Store, adapter: str) -> StoredAdapter:
    from iclora.sampling.adapters import find_stored

    stored = find_stored(store, adapter)
    if stored is None:
        raise BadInput(f"no adapter {adapter!r} in {store.url}; `iclora train` makes one")
    return stored
