"""From what was typed to a store and a configuration; foreign errors end here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iclora.errors import BadConfig, BadInput

if TYPE_CHECKING:
    from iclora.store import Store
    from schemas.config import Config


def open_store(url: str) -> Store:
    """The store at a folder or URL.

    Raises:
        BadInput: the URL's protocol is unknown, or its file system is not installed.
    """
    from iclora.store import Store

    try:
        return Store(url)
    except BadInput as error:
        raise BadInput(f"--store {error}") from error


def config_from(preset: str, overrides: Sequence[str] | None) -> Config:
    """A preset with overrides."""
    from iclora.presets import load_config

    return load_config(preset, overrides or ())


def config_over(base: Config, overrides: Sequence[str] | None) -> Config:
    """A resolved configuration with overrides on top of it."""
    from iclora.presets import load_config, parse_override

    values = base.to_json()
    preset = values.pop("preset")
    changed = load_config(
        "miniature", values | dict(parse_override(text) for text in overrides or ())
    )
    return changed.model_copy(update={"preset": preset})


def read_config(file: Path) -> Config:
    """A resolved configuration from its JSON file.

    Raises:
        BadConfig: there is no such file or it is not a configuration.
    """
    from pydantic import ValidationError

    from iclora.presets.renamed import new_name
    from schemas.config import Config

    try:
        return Config.from_text(file.read_bytes())
    except OSError as error:
        raise BadConfig(f"--config {file}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        name = new_name(where)
        fault = first["msg"] if name == where else f"is now called {name}"
        raise BadConfig(f"--config {file}: {where}: {fault}") from error


def with_task(config: Config, task: str) -> Config:
    """A configuration with the layout and caption format of a task's preset."""
    if not task:
        return config
    from iclora.presets import load_config

    other = load_config(task)
    caption = config.caption.model_copy(
        update={"task": other.caption.task, "prefix": other.caption.prefix}
    )
    return config.model_copy(update={"layout": other.layout, "caption": caption})
