"""Trading time for memory: which blocks recompute their activations in the backward pass."""

from __future__ import annotations

from typing import Any

from torch.utils.checkpoint import checkpoint


def repeated_blocks(transformer: Any) -> list[Any]:
    """The transformer's blocks in the order in which they run."""
    kinds = set(transformer._repeated_blocks)  # noqa: SLF001 - diffusers' own list of them
    return [module for module in transformer.modules() if type(module).__name__ in kinds]


class ActivationCheckpointing:
    """Makes a share of the blocks recompute, evenly spread; it may change between steps."""

    def __init__(self, transformer: Any) -> None:
        self._blocks = repeated_blocks(transformer)
        self._chosen: set[int] = set()
        self._transformer = transformer
        self._share = -1.0

    def set_share(self, share: float) -> int:
        """Sets the share, 0-1; returns how many blocks recompute."""
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
