"""What the command lines of the recipes share."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import NamedTuple

import torch


class RecipeArguments(NamedTuple):
    """What a recipe was asked to do."""

    folder: Path
    """Checkpoint and pool are kept here, the finished model in ``model/``."""

    steps: int


def read_arguments(recipe: str, *, steps: int) -> RecipeArguments:
    """Reads ``OUT [--steps N] [--threads N]`` and sets up logging and threads."""
    parser = argparse.ArgumentParser(description=recipe)
    parser.add_argument("out", type=Path, help="where checkpoint, panels and model go")
    parser.add_argument("--steps", type=int, default=steps, help="of the whole training")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    return RecipeArguments(given.out, given.steps)
