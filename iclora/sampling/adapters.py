"""Adapter lookup by name, and application to a transformer.

A name is a safetensors file, an adapter folder, ``name``, ``name@version`` or ``name@champion`` in
the store, or a hub id (``owner/repo`` or ``owner/repo/file.safetensors``: the paper's ten released
adapters are ten files of one repository). A suffix such as ``:0.8`` sets the weight. Files of
AI-Toolkit, kohya, XLabs and diffusers load through diffusers' converters.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from iclora.errors import BadInput, MissingModel
from iclora.store import Store, file_sha256
from schemas.adapter import RunRecord
from schemas.base import DIGEST_LENGTH
from schemas.sampling import AdapterUse
from schemas.store_paths import adapter_path

if TYPE_CHECKING:
    from torch import Tensor

    from iclora.models.families import Family

log = logging.getLogger(__name__)

_WEIGHT = re.compile(r"(?P<name>.+):(?P<weight>[+-]?\d*\.?\d+)")
_NAME = re.compile(r"(?P<name>[a-z0-9_-]+)(?:@(?P<version>[a-z0-9_-]+))?")
_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>.+\.safetensors))?")


class StoredAdapter(NamedTuple):
    """Adapter version in a store."""

    name: str
    version: str

    @property
    def folder(self) -> str:
        """Folder relative to the store's root."""
        return adapter_path(self.name, version=self.version)


def find_stored(store: Store, text: str) -> StoredAdapter | None:
    """Finds the version of ``name``, ``name@version`` or ``name@champion``; None if there is none.

    Raises:
        BadInput: the store has adapters of that name, but not this version.
    """
    match = _NAME.fullmatch(text)
    if not match or not store.exists(adapter_path(match["name"])):
        return None
    name, version = match["name"], match["version"] or "LATEST"
    if version in ("LATEST", "champion"):
        pointer = adapter_path(name, version.upper())
        if not store.exists(pointer):
            missing = "champion yet" if version == "champion" else "finished version"
            raise BadInput(f"{name} in {store.url} has no {missing}")
        version = store.read(pointer).decode().strip()
    stored = StoredAdapter(name, version)
    if not store.exists(f"{stored.folder}/run.json"):
        entries = store.listdir(adapter_path(name))
        versions = [entry for entry in entries if not entry.partition(".")[0].isupper()]
        raise BadInput(
            f"{store.url} has no {name}@{version}; it has {', '.join(versions) or 'none'}"
        )
    return stored


def locate_adapter(store: Store, text: str) -> AdapterUse:
    """Finds an adapter and computes its file's digest.

    Args:
        store: searched for names after files and folders.
        text: a name as in this module's docstring, with or without ``:weight``.

    Raises:
        BadInput: the adapter does not exist, or a folder or repository holds several.
        MissingModel: a hub id that is not on this machine.
    """
    name, weight, match = text, 1.0, _WEIGHT.fullmatch(text)
    if match and not Path(text).exists():
        name, weight = match["name"], float(match["weight"])
    path = Path(name)
    stored = None if path.exists() else find_stored(store, name)
    if stored:
        file = store.local_path(f"{stored.folder}/{stored.name}.safetensors")
        run = RunRecord.from_text(store.read(f"{stored.folder}/run.json"))
        return _use(f"{stored.name}@{stored.version}", file, weight, run)
    if not path.exists():
        path = _from_hub(store, name)
    file = _only_weights(path) if path.is_dir() else path
    if file.suffix != ".safetensors":
        raise BadInput(f"{file} is not a safetensors file; other weights are not loaded")
    record = file.with_name("run.json")
    run = RunRecord.from_text(record.read_bytes()) if record.is_file() else None
    return _use(file.stem, file, weight, run)


def _use(name: str, file: Path, weight: float, run: RunRecord | None) -> AdapterUse:
    return AdapterUse(
        name=name,
        file=str(file),
        content=file_sha256(file)[:DIGEST_LENGTH],
        weight=weight,
        conditional=run is not None and run.config.train.conditional_probability > 0,
    )


def _only_weights(folder: Path) -> Path:
    """Finds the adapter in a folder: the file in its run record, else the only safetensors file."""
    record = folder / "run.json"
    if record.is_file():
        return folder / f"{RunRecord.from_text(record.read_bytes()).name}.safetensors"
    files = sorted(folder.rglob("*.safetensors"))
    if len(files) != 1:
        names = ", ".join(file.relative_to(folder).as_posix() for file in files)
        raise BadInput(f"{folder} holds {len(files)} safetensors files ({names}): name one")
    return files[0]


def _from_hub(store: Store, name: str) -> Path:
    match = _HUB.fullmatch(name)
    if not match:
        raise BadInput(
            f"{name!r} is no file or folder, no adapter in {store.url}, and no hub id like "
            f"owner/repo/file.safetensors"
        )
    if not match["file"]:
        from iclora.models.locate import locate

        return locate(name).folder
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, file = match["repo"], match["file"]
    try:
        return Path(hf_hub_download(repo, file))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise MissingModel(
            f"{repo}/{file} is not on this machine: run `hf download {repo} {file}` where there "
            f"is a network"
        ) from error


@contextmanager
def applied(transformer: Any, uses: Sequence[AdapterUse], family: Family) -> Generator[None]:
    """Applies adapters to a transformer within the context, each with its weight.

    Raises:
        BadInput: a file is not a LoRA of this base.
    """
    if not uses:
        yield
        return
    names = [f"adapter_{number}" for number in range(len(uses))]
    try:
        for name, use in zip(names, uses, strict=True):
            _apply(transformer, name, use, family)
        transformer.set_adapters(names, [use.weight for use in uses])
        yield
    finally:
        transformer.unload_lora()


def _apply(transformer: Any, name: str, use: AdapterUse, family: Family) -> None:
    from iclora.models.lora_files import first_line, read_lora

    weights = read_lora(Path(use.file), family)
    mine = {key: value for key, value in weights.items() if not key.startswith("text_encoder")}
    # diffusers only warns. Bases of equal width share layers: some would change, the others not.
    changed = {key.partition(".lora_")[0] for key in mine if ".lora_" in key}
    foreign = sorted(changed - {layer for layer, _ in transformer.named_modules()})
    if foreign:
        raise BadInput(
            f"{use.name} is no LoRA of this base, which lacks {len(foreign)} of the {len(changed)} "
            f"layers that it changes, such as {foreign[0]}"
        )
    try:
        with warnings.catch_warnings():
            # peft's doubt about a second adapter: several are what was asked for.
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            transformer.load_lora_adapter(mine, prefix=None, adapter_name=name)
        fitting = _hold_as_computed(transformer, name, mine)
    except (RuntimeError, ValueError, KeyError) as error:
        # What diffusers and peft raise on files that do not fit.
        raise BadInput(f"{use.name} is no LoRA of this base: {first_line(error)}") from error
    if not fitting:
        raise BadInput(f"{use.name} holds no weights for the transformer of this base")
    if len(mine) < len(weights):
        log.warning("%s also changes the text encoder; that part is left out", use.name)


def _hold_as_computed(transformer: Any, name: str, weights: Mapping[str, Tensor]) -> int:
    """Casts an adapter to the compute dtype; returns its number of tensors.

    peft creates adapters in the dtype of the base weights. For 8-bit weights that dtype has no
    arithmetic and keeps only 3 mantissa bits, so the values are reloaded from the file.
    """
    from peft import set_peft_model_state_dict

    named = dict(transformer.named_parameters())
    held = [tensor for key, tensor in named.items() if name in key.split(".")]
    if any(tensor.dtype != transformer.dtype for tensor in held):
        for tensor in held:
            tensor.data = tensor.data.to(transformer.dtype)
        set_peft_model_state_dict(transformer, dict(weights), name)
    return len(held)
