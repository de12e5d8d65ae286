"""Linting of all captions at a path: a folder of text files, a text file, or a dataset.

This is separate from the linter because captions are created before shards exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from iclora.captioning.linter import lint_caption
from iclora.dataset.reader import LATEST, open_dataset
from iclora.errors import BadInput
from iclora.store import MANIFEST, Store
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
    captions = dict(_captions_at(Path(path), store, str(path)))
    if not captions:
        raise BadInput(f"{path} holds no caption; captions are .txt files or lines of one")
    return {name: lint_caption(text, layout, params) for name, text in captions.items()}


def _captions_at(path: Path, store: Store | None, name: str) -> Iterator[tuple[str, str]]:
    is_dataset = any((path / file).is_file() for file in (MANIFEST, LATEST))
    if path.is_dir() and not is_dataset:
        for file in sorted(path.rglob("*.txt")):
            relative = file.relative_to(path)
            if not any(part.startswith((".", "__MACOSX")) for part in relative.parts):
                yield relative.with_suffix("").as_posix(), _read(file)
    elif path.is_file():
        for number, line in enumerate(_read(path).splitlines(), 1):
            if line.strip():
                yield f"line {number}", line
    elif is_dataset or store is not None or "://" in name:
        for sample in open_dataset(store or Store("."), name).samples():
            yield sample.record.key, sample.text
    else:
        raise BadInput(f"{name} does not exist; give a folder of .txt files, a text or a dataset")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
