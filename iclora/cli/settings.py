"""Store and configuration from a command's options; foreign errors end here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iclora.errors import BadConfig, BadInput

if TYPE_CHECKING:
    from iclora.store import Store
    from schemas.config import Config


def open_store(url: str) -> Store:
    """Opens the store at a folder or URL.

    Raises:
        BadInput: the URL's protocol is unknown, or its file system is not installed.
    """
    from iclora.store import Store

    try:
        return Store(url)
    except BadInput as error:
        raise BadInput(f"--store {error}") from error


def config_from(preset: str, base: str, overrides: Sequence[str] | None) -> Config:
    """Resolves a preset on a base with overrides; the miniature if neither is named."""
    from iclora.presets import load_config

    return load_config(preset, overrides or (), base=base)


def config_over(config: Config, overrides: Sequence[str] | None) -> Config:
    """Returns a resolved configuration with overrides on top of it."""
    from iclora.presets import override_config

    return override_config(config, overrides or ())


def read_config(file: Path) -> Config:
    """Reads a resolved configuration from its JSON file.

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
        message = first["msg"] if name == where else f"is now called {name}"
        raise BadConfig(f"--config {file}: {where}: {message}") from error


def with_task(config: Config, task: str) -> Config:
    """Returns a configuration with the layout and caption format of a task's preset."""
    if not task:
        return config
    from iclora.presets import load_config

    preset = load_config(task)
    caption = config.caption.model_copy(
        update={"task": preset.caption.task, "prefix": preset.caption.prefix}
    )
    return config.model_copy(update={"layout": preset.layout, "caption": caption})
