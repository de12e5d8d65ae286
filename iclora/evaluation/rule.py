"""Promotion rule of a name: the settings that measure and decide about each of its adapters.

It is pinned with the first champion, so that no later adapter chooses its own criteria. Only
``evaluate --repin`` changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from pydantic import ValidationError

from iclora.errors import BadInput
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.base import digest_of
from schemas.config import Config
from schemas.evaluation import PromotionRule
from schemas.store_paths import adapter_path

RULE = "RULE.json"

FREE = frozenset(
    {
        "evaluate.dino",
        "evaluate.attribute_reader",
        "evaluate.sheet_side",
        "sample.batch",
        "sample.count",
        "sample.seed",
    }
)
"""Settings that cannot change a decision: informational ones, those that an evaluation ignores, and
those that change no image."""


def rule_in(config: Config) -> PromotionRule:
    """Extracts the rule from a configuration."""
    return PromotionRule(evaluate=config.evaluate, sample=config.sample)


def with_rule(config: Config, rule: PromotionRule) -> Config:
    """Replaces a configuration's own settings with a rule."""
    return config.model_copy(update={"evaluate": rule.evaluate, "sample": rule.sample})


def rule_of(store: Store, name: str, champion: str, run: RunRecord) -> PromotionRule:
    """Finds the rule that decides about an adapter.

    Args:
        store: store of pinned rules.
        name: name of the adapter.
        champion: version of the current champion; empty if none.
        run: run record of the adapter.

    Returns:
        The pinned rule; if none is pinned, that of the champion's run, else of the adapter's own.

    Raises:
        BadInput: the pinned rule cannot be read.
    """
    if pinned := pinned_rule(store, name):
        return pinned
    if champion:
        run = RunRecord.from_text(store.read(adapter_path(name, "run.json", version=champion)))
    return rule_in(run.config)


def pinned_rule(store: Store, name: str) -> PromotionRule | None:
    """Reads the pinned rule of a name; None if there is none.

    Raises:
        BadInput: the rule cannot be read.
    """
    path = adapter_path(name, RULE)
    if not store.exists(path):
        return None
    try:
        return PromotionRule.from_text(store.read(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "it"
        raise BadInput(
            f"{store.address(path)} cannot be read: {field}: {first['msg']}; mend it, or delete "
            f"it and pin another with `iclora evaluate {name} --repin`"
        ) from error


def differing(rule: PromotionRule, other: PromotionRule) -> tuple[str, ...]:
    """Lists the decisive settings that differ between two rules."""
    first, second = _decisive(rule), _decisive(other)
    return tuple(key for key in first if first[key] != second[key])


def rule_digest(rule: PromotionRule) -> str:
    """Computes the digest of a rule's decisive settings."""
    return digest_of(_decisive(rule))


def _decisive(rule: PromotionRule) -> dict[str, Any]:
    return {key: value for key, value in _leaves(rule.to_json(), "") if key not in FREE}


def _leaves(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
