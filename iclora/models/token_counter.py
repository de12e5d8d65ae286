"""Token counts by a model's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iclora.errors import BadConfig
from iclora.models.loaded import cached_model
from iclora.models.locate import locate


@cached_model(4)
def load_token_counter(name: str) -> Callable[[str], int]:
    """Returns a function that counts a text's tokens, including special tokens.

    Args:
        name: folder or hub id of a tokenizer, or of a pipeline whose longest text encoder's
            tokenizer is in ``tokenizer_2`` (FLUX.1) or ``tokenizer``.

    Raises:
        MissingModel: the tokenizer is not on this machine.
        BadConfig: the folder holds no tokenizer.
    """
    from transformers import AutoTokenizer

    folder = locate(name, weights=False).folder
    inner = [folder / part for part in ("tokenizer_2", "tokenizer") if (folder / part).is_dir()]
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            inner[0] if inner else folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise BadConfig(f"{name} holds no tokenizer that transformers can read") from error
    return lambda text: len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
