"""``iclora shots``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import AsJson, Base, Overrides, Preset
from iclora.cli.settings import config_from

Video = Annotated[Path, typer.Argument(metavar="VIDEO", help="A film file.")]
Detector = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="adaptive|content|histogram|transnet",
        help="Instead of the preset's.",
    ),
]


def shots(
    video: Video,
    detector: Detector = "",
    preset: Preset = "",
    base: Base = "",
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Lists the cuts of a film, for tuning."""
    from iclora.ingest import find_cuts

    chosen = [f"ingest.shots.detector={detector}"] if detector else []
    params = config_from(preset, base, [*chosen, *(overrides or ())]).ingest
    result = find_cuts(video, params.shots, params.max_pixels)
    lines = [f"{frame}\t{at:.3f}" for frame, at in zip(result.cuts, result.seconds, strict=True)]
    lines.append(f"{len(result.cuts) + 1} shots in {result.frames} frames at {result.fps:g} fps")
    answer(result.to_json(), "\n".join(lines), as_json=as_json)
