"""Linting of all captions at a path: a folder of text files, a text file, or a dataset.

This is separate from the linter because captions are created before shards exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from iclora.captioning.linter import lint_caption
from iclora.dataset.reader import open_dataset
from iclora.errors import BadInput
from iclora.store import Store
from schemas.caption import CaptionFault
from schemas.captioning import CaptionParams
from schemas.layout import Layout


def lint_path(
    path: str | Path, layout: Layout, params: CaptionParams, *, store: Store | None = None
) -> dict[str, list[CaptionFault]]:
    """Returns the faults of every caption at a path; empty lists for clean captions.

    Args:
        path: a folder, whose ``.txt`` files are captions (including subfolders); a text file with
            one caption per line, empty lines ignored; or a dataset: its folder, URL, ``name`` or
            ``name@version``.
        layout: source of the markers.
        params: prefix and budgets.
        store: store for dataset names.

    Returns:
        Faults by caption file (relative, without ``.txt``), line number or sample key.

    Raises:
        BadInput: the path or dataset does not exist, or contains no caption.
    """
    found = dict(_captions_at(path, store))
    if not found:
        raise BadInput(f"{path} holds no caption; captions are .txt files or lines of one")
    return {name: lint_caption(text, layout, params) for name, text in found.items()}


def _captions_at(path: str | Path, store: Store | None) -> Iterator[tuple[str, str]]:
    place = Path(path)
    is_dataset = any((place / name).is_file() for name in ("manifest.json", "LATEST"))
    if place.is_dir() and not is_dataset:
        return _in_folder(place)
    if place.is_file():
        return _in_file(place)
    if not is_dataset and store is None and "://" not in str(path):
        raise BadInput(f"{path} does not exist; give a folder of .txt files, a text or a dataset")
    return _in_dataset(str(path), store)


def _in_dataset(dataset: str, store: Store | None) -> Iterator[tuple[str, str]]:
    for sample in open_dataset(store or Store("."), dataset).samples():
        yield sample.record.key, sample.text


def _in_folder(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*.txt")):
        relative = file.relative_to(folder)
        if not any(part.startswith((".", "__MACOSX")) for part in relative.parts):
            yield relative.with_suffix("").as_posix(), _read(file)


def _in_file(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_read(file).splitlines(), 1):
        if line.strip():
            yield f"line {number}", line


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
