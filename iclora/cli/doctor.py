"""``iclora doctor``: what is missing on this machine, and the command that fixes it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AsJson, Base, Overrides, Preset, StoreUrl
from iclora.cli.settings import config_from, open_store
from iclora.errors import UserError
from iclora.redact import redact_text, redact_url, url_secrets

if TYPE_CHECKING:
    from schemas.config import Config

_PYTHON = (3, 11)
_FREE_GIB = 5
_GIB = 1 << 30
_FASTAPI_BELOW = (0, 151)
"""Newer ones break Prefect 3.8 and 3.9 at import."""


class DoctorCheck(NamedTuple):
    """Check of one thing that must be on this machine."""

    name: str
    ok: bool
    fix: str = ""
    """Command or step that fixes a failed check."""


def doctor(
    preset: Preset = "",
    base: Base = "",
    overrides: Overrides = None,
    store: StoreUrl = DEFAULT_STORE,
    *,
    as_json: AsJson = False,
) -> int:
    """Says what is missing here, and how to get it."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # to look is not to download
    config = config_from(preset, base, overrides)
    checks = [*_software(), *_models(config), *_captioner_server(config), *_store(store)]
    lines = [
        f"ok      {check.name}" if check.ok else f"MISSING {check.name}: {check.fix}"
        for check in checks
    ]
    is_ok = all(check.ok for check in checks)
    report = [{"name": c.name, "ok": c.ok, "fix": "" if c.ok else c.fix} for c in checks]
    answer({"ok": is_ok, "checks": report}, "\n".join(lines), as_json=as_json)
    return 0 if is_ok else 1


def _software() -> Iterator[DoctorCheck]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield DoctorCheck(
        f"Python {version}", sys.version_info >= _PYTHON, "install Python 3.11 or newer"
    )
    # The packages that this one declares and that are not an extra's.
    requirements = metadata.requires("iclora") or [] if _version("iclora") else []
    names = {re.split(r"[<>=!~;\[ ]", line)[0] for line in requirements if "extra ==" not in line}
    for package in sorted(names):
        installed = _version(package)
        yield DoctorCheck(
            f"{package} {installed}".strip(), bool(installed), f"pip install {package}"
        )
    fastapi = tuple(int(part) for part in _version("fastapi").split(".")[:2] if part.isdigit())
    yield DoctorCheck(
        "fastapi that Prefect accepts", fastapi < _FASTAPI_BELOW, 'pip install "fastapi<0.151"'
    )
    yield _torch()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _torch() -> DoctorCheck:
    """Checks that torch and torchvision import together; a mismatched pair does not."""
    try:
        torch = import_module("torch")
        import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        fix = f"pip install --force-reinstall torch torchvision ({error})"
        return DoctorCheck("torch with torchvision", ok=False, fix=fix)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    return DoctorCheck(f"torch {torch.__version__} on {device}", ok=True)


def _models(config: Config) -> Iterator[DoctorCheck]:
    from iclora.models.clip import clip_label
    from iclora.models.locate import locate

    yield _model("clip", config.filter.clip, lambda name: clip_label(name).rpartition("@")[2])
    if config.caption.captioner.kind == "local":
        yield _model(
            "captioner", config.caption.captioner.model, lambda n: locate(n, fetch=False).revision
        )
    yield _model("base", config.base.model, lambda name: locate(name, fetch=False).revision)
    for role, file in (
        ("faces", config.stitch.face_model),
        ("shots", config.ingest.shots.model_file),
    ):
        if file:
            yield DoctorCheck(
                f"{role}: {file}", Path(file).is_file(), f"put the model's file at {file}"
            )


def _model(role: str, name: str, revision_of: Callable[[str], str]) -> DoctorCheck:
    try:
        revision = revision_of(name)
    except UserError as error:
        return DoctorCheck(f"{role}: {name}", ok=False, fix=str(error))
    fix = "its weights are random; the trained ones come with the package: install iclora again"
    return DoctorCheck(f"{role}: {name}", not revision.startswith("random-"), fix)


def _captioner_server(config: Config) -> Iterator[DoctorCheck]:
    captioner = config.caption.captioner
    if captioner.kind == "server":
        fix = "--set caption.captioner.url=http://HOST:PORT/v1"
        url = redact_url(captioner.url)
        yield DoctorCheck(f"captioner's server {url}", bool(url), fix)
        variable = captioner.api_key_env
        is_set = variable in os.environ
        yield DoctorCheck(
            f"{variable} is set", is_set, f"export {variable}=... (any word if it needs none)"
        )


def _store(url: str) -> Iterator[DoctorCheck]:
    if url.startswith("s3:"):
        yield DoctorCheck(
            "s3fs, for s3:// stores", find_spec("s3fs") is not None, "pip install 's3fs'"
        )
    try:
        store = open_store(url)
        store.listdir("")
    except UserError as error:
        yield DoctorCheck(f"store {redact_url(url)}", ok=False, fix=str(error))
        return
    except Exception as error:  # noqa: BLE001 - every file system has its own errors
        fix = redact_text(f"{type(error).__name__}: {error}", url_secrets(url))
        yield DoctorCheck(f"store {redact_url(url)}", ok=False, fix=fix)
        return
    path = (Path(store.root) if store.is_local else store.work_folder).resolve()
    folder = next(parent for parent in (path, *path.parents) if parent.exists())
    yield DoctorCheck(f"{folder} is writable", os.access(folder, os.W_OK), f"chmod u+w {folder}")
    free = shutil.disk_usage(folder).free
    name = f"{free / _GIB:.0f} GiB free at {folder}"
    yield DoctorCheck(name, free >= _FREE_GIB * _GIB, f"make room: {_FREE_GIB} GiB at least")
