"""The rule of a name: the settings by which each of its adapters is measured and decided on.

It is pinned in ``adapters/<name>/RULE.json`` when the first champion is named, because an adapter
that is measured by the settings of its own run sets its own exam. Sampling is part of it: both
sides of a comparison are drawn with it. Only ``evaluate --repin`` changes a pinned rule.
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
from schemas.evaluation import Rule

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
"""Settings that cannot change a decision: what is only told, and what an evaluation does not read
or what changes no picture."""


def rule_in(config: Config) -> Rule:
    """Takes the rule out of a configuration."""
    return Rule(evaluate=config.evaluate, sample=config.sample)


def with_rule(config: Config, rule: Rule) -> Config:
    """Puts a rule in place of a configuration's own settings."""
    return config.model_copy(update={"evaluate": rule.evaluate, "sample": rule.sample})


def rule_of(store: Store, name: str, champion: str, run: RunRecord) -> Rule:
    """Finds the rule that decides about an adapter.

    Args:
        store: where rules are pinned.
        name: of the adapter.
        champion: the version in force; empty if none.
        run: of the adapter.

    Returns:
        The pinned rule; where none was pinned, that of the champion's run, else of its own.

    Raises:
        BadInput: the pinned rule cannot be read.
    """
    if pinned := pinned_rule(store, name):
        return pinned
    if champion:
        run = RunRecord.from_text(store.read(f"adapters/{name}/{champion}/run.json"))
    return rule_in(run.config)


def pinned_rule(store: Store, name: str) -> Rule | None:
    """Reads the rule of a name; None if none was pinned.

    Raises:
        BadInput: it cannot be read.
    """
    place = f"adapters/{name}/{RULE}"
    if not store.exists(place):
        return None
    try:
        return Rule.from_text(store.read(place))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise BadInput(
            f"{store.address(place)} cannot be read: {where}: {first['msg']}; mend it, or delete "
            f"it and pin another with `iclora evaluate {name} --repin`"
        ) from error


def differing(rule: Rule, other: Rule) -> tuple[str, ...]:
    """Names the settings that decide and differ between two rules."""
    mine, theirs = _deciding(rule), _deciding(other)
    return tuple(key for key in mine if mine[key] != theirs[key])


def rule_digest(rule: Rule) -> str:
    """Digests what of a rule decides."""
    return digest_of(_deciding(rule))


def _deciding(rule: Rule) -> dict[str, Any]:
    return {key: value for key, value in _leaves(rule.to_json(), "") if key not in FREE}


def _leaves(tree: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{above}{key}.")
        else:
            yield f"{above}{key}", value
