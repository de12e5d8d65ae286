"""Selective activation checkpointing for a share of the transformer blocks."""

from __future__ import annotations

from typing import Any

from torch.utils.checkpoint import checkpoint


def repeated_blocks(transformer: Any) -> list[Any]:
    """Lists the transformer's repeated blocks in execution order."""
    kinds = set(transformer._repeated_blocks)  # noqa: SLF001 - diffusers' own list of them
    return [module for module in transformer.modules() if type(module).__name__ in kinds]


class ActivationCheckpointing:
    """Activation checkpointing of evenly spaced blocks, adjustable between steps."""

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer
        self._blocks = repeated_blocks(transformer)
        self._chosen: set[int] = set()  # ids of the checkpointed blocks
        self._share = -1.0

    def set_share(self, share: float) -> int:
        """Sets the share of checkpointed blocks (0-1) and returns their number."""
        total = len(self._blocks)
        count = round(share * total)
        if share == self._share:
            return count
        self._share = share
        self._chosen = {
            id(block)
            for number, block in enumerate(self._blocks)
            if (number + 1) * count // total > number * count // total
        }
        if count:
            self._transformer.enable_gradient_checkpointing(self._run)
        else:
            self._transformer.disable_gradient_checkpointing()
        return count

    def _run(self, block: Any, *arguments: Any) -> Any:
        if id(block) in self._chosen:
            return checkpoint(block.__call__, *arguments, use_reentrant=False)
        return block(*arguments)
