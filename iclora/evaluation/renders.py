"""Rendering of the prompts per arm, with the same noise.

Renders are stored in a folder of the work folder named by the digest of their inputs. A retry
resumes, and the base's renders are reused for every later adapter.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from iclora.evaluation.plan import Arm, EvaluationPlan
from iclora.evaluation.prompts import PromptSet
from iclora.sampling.given_panels import pixels_digest
from iclora.sampling.render_records import RenderRequest
from iclora.store import Store
from schemas.layout import Layout
from schemas.sampling import RenderRecord

if TYPE_CHECKING:
    from iclora.evaluation.measurements import Opener
    from iclora.sampling.render import ProgressCallback

GIVEN_PANEL = 0
"""Index of the panel given in conditional renders."""


class Renders(NamedTuple):
    """Renders of one arm."""

    folder: Path
    free: tuple[tuple[RenderRecord, ...], ...]
    """Free renders, per prompt and seed."""

    conditional: tuple[RenderRecord, ...]
    """Conditional renders, one per real set, with its first panel given; first seed only."""

    def open_free(self) -> list[list[Opener]]:
        """Returns openers of the free renders."""
        return [[partial(open_picture, self.folder / r.canvas) for r in row] for row in self.free]

    def open_conditional(self) -> list[list[Opener]]:
        """Returns openers of the conditional renders."""
        return [[partial(open_picture, self.folder / r.canvas)] for r in self.conditional]

    def untouched(self, layout: Layout) -> list[bool]:
        """Checks for each conditional render that its given panel is unchanged, pixel for pixel."""
        marker = layout.markers[GIVEN_PANEL]
        return [
            pixels_digest(open_picture(self.folder / record.panels[GIVEN_PANEL]))
            == record.given[marker]
            for record in self.conditional
        ]


def open_picture(file: Path) -> Image.Image:
    """Opens an image file as RGB."""
    with Image.open(file) as picture:
        return picture.convert("RGB")


def render_arm(
    store: Store, plan: EvaluationPlan, arm: Arm, prompts: PromptSet, progress: ProgressCallback
) -> Renders:
    """Renders the missing images of one arm.

    Returns:
        All renders of the arm.

    Raises:
        BadInput: the adapter does not fit the base.
        MissingModel: the base is not on this machine.
    """
    from iclora.sampling.render import render_requests

    config = plan.config.model_copy(update={"base": arm.base or plan.config.base})
    params = config.evaluate
    folder = store.work_folder / "renders"
    requests = [RenderRequest(prompt, seed) for prompt in prompts.prompts for seed in params.seeds]
    real = () if prompts.real_seen else prompts.real[: params.conditional_prompts]
    requests += [
        RenderRequest(item.caption, params.seeds[0], {GIVEN_PANEL: item.panels()[GIVEN_PANEL]})
        for item in real
    ]
    records = render_requests(
        requests,
        config,
        folder,
        adapters=arm.adapters,
        progress=lambda _step, done, total: progress(f"draw {arm.label}", done, total),
    )
    count, seeds = len(prompts.prompts), len(params.seeds)
    free = tuple(records[n * seeds : (n + 1) * seeds] for n in range(count))
    return Renders(folder, free, records[count * seeds :])
