"""Merges three sets of values: declared last, on the server now, declared now.

What is on the server and differs from what was declared last was changed by a person, and stays.
Everything else follows the declaration. The server remembers the last declaration in Prefect
Variables, as digests: they are small, and tell nobody a value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate

Values = Mapping[str, Any]
"""Key to value."""

Digests = Mapping[str, str]
"""Key to the digest of its value."""

VARIABLE = "iclora-declared-"
"""Prefix of the Prefect Variables that hold the digests of the last declaration."""

_ABSENT = object()
_MAX_SHOWN = 60
"""Maximum number of characters of a value in a message."""

_PRIVATE = ("job_variables/", "url")
"""Prefixes of keys whose values may hold a secret."""


class Merged(NamedTuple):
    """The values that the server should have."""

    values: dict[str, Any]
    """Key to value."""

    kept: list[str]
    """A sentence on each value that a person changed and that is not what is declared."""


class Items(NamedTuple):
    """Things of one kind on a server, each with a name, and how they are changed there."""

    kind: str
    """Display name, such as ``schedule``."""

    now: Mapping[str, Values]
    """Name to what the server has; also of those that are not declared."""

    create: Callable[[str, Values], object]
    update: Callable[[str, Values], object]
    delete: Callable[[str], object]


def digest(value: Any) -> str:
    """Names a value by its content; the order of keys and of a set does not matter."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def digests(values: Values) -> dict[str, str]:
    """Names each value by its content."""
    return {key: digest(value) for key, value in values.items()}


def merge(last: Digests | None, now: Values, declared: Values) -> Merged:
    """Takes what is declared, except where a person changed it.

    Args:
        last: digests of the last declaration; None if there was none, and everything on the
            server counts as a person's.
        now: values on the server.
        declared: values that the server should have if nobody changed anything.
    """
    values: dict[str, Any] = {}
    kept: list[str] = []
    for key in {**now, **declared}:
        current, wanted = now.get(key, _ABSENT), declared.get(key, _ABSENT)
        if last is None:
            changed = key in now
        elif key in now:
            changed = digest(current) != last.get(key)
        else:
            changed = key in last
        value = current if changed else wanted
        if value is not _ABSENT:
            values[key] = value
        if value != wanted:
            kept.append(_sentence(key, current, wanted))
    return Merged(values, kept)


def merge_items(
    last: Mapping[str, Digests] | None, items: Items, declared: Mapping[str, Values]
) -> list[str]:
    """Brings things with names up to what is declared, except where a person changed them.

    A declared one that a person deleted is not made again, one that a person added stays, and one
    that is declared no more is deleted unless a person changed it.

    Returns:
        A sentence on each difference that stays.
    """
    kept: list[str] = []
    before = last or {}
    for name in {**items.now, **declared}:
        title = f"{items.kind} {name}"
        if name not in items.now:
            if name in before:
                kept.append(f"{title} was deleted and stays so, although it is declared")
            else:
                items.create(name, declared[name])
        elif name not in declared:
            if before.get(name) == digests(items.now[name]):
                items.delete(name)
            else:
                kept.append(f"{title} stays, although it is not declared")
        else:
            merged = merge(before.get(name), items.now[name], declared[name])
            if merged.values != items.now[name]:
                items.update(name, merged.values)
            kept += [f"{title}: {sentence}" for sentence in merged.kept]
    return kept


def recall(client: SyncPrefectClient, topic: str) -> dict[str, Any] | None:
    """Reads the digests of what was declared last; None if nothing was."""
    variable = client.read_variable_by_name(VARIABLE + topic)
    return variable.value if variable and isinstance(variable.value, dict) else None


def remember(client: SyncPrefectClient, topic: str, declared: dict[str, Any]) -> None:
    """Writes the digests of what is declared now."""
    before = recall(client, topic)
    if before is None:
        client.create_variable(VariableCreate(name=VARIABLE + topic, value=declared))
    elif before != declared:
        client.update_variable(VariableUpdate(name=VARIABLE + topic, value=declared))


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)


def _sentence(key: str, current: Any, wanted: Any) -> str:
    name = key.replace("/", ".")
    shown = [
        "unset" if value is _ABSENT else json.dumps(value, default=_plain, ensure_ascii=False)
        for value in (current, wanted)
    ]
    if key.startswith(_PRIVATE) or max(map(len, shown)) > _MAX_SHOWN:
        return f"{name} stays as it was set, not as it is declared"
    return f"{name} stays {shown[0]}; declared: {shown[1]}"
