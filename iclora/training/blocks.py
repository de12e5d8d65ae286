"""Trading time for memory: which blocks recompute their activations in the backward pass."""

from __future__ import annotations

from typing import Any

from torch.utils.checkpoint import checkpoint


def repeated_blocks(transformer: Any) -> list[Any]:
    """The transformer's blocks in the order in which they run."""
    kinds = set(transformer._repeated_blocks)  # noqa: SLF001 - diffusers' own list of them
    return [module for module in transformer.modules() if type(module).__name__ in kinds]


def recompute_blocks(transformer: Any, share: float) -> int:
    """Makes a share of the blocks recompute, evenly spread; the others keep their activations.

    Returns:
        How many blocks recompute.
    """
    blocks = repeated_blocks(transformer)
    count = round(share * len(blocks))
    chosen = {
        id(block)
        for number, block in enumerate(blocks)
        if (number + 1) * count // len(blocks) > number * count // len(blocks)
    }

    def run(block: Any, *arguments: Any) -> Any:
        if id(block) in chosen:
            return checkpoint(block.__call__, *arguments, use_reentrant=False)
        return block(*arguments)

    if count:
        transformer.enable_gradient_checkpointing(run)
    else:
        transformer.disable_gradient_checkpointing()
    return count
