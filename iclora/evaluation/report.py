"""The report: ``report.json`` for machines, ``report.html`` for people, ``sheets/`` for both.

The HTML is one file that asks nothing of any network (its own content-security policy forbids it):
pictures are data URIs, plots are inline SVG, and every text that came from outside is escaped by
the template engine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from iclora.evaluation.cards import QUALITY, Material, completed, data_uri, extremes, rows
from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.judges import MINIATURE
from iclora.evaluation.plots import TITLES, absent, differences, loss_curve, score_plots, tiles
from iclora.evaluation.renders import Renders, open_picture
from iclora.evaluation.truth import PAIRS
from iclora.sampling.sheet import contact_sheet
from iclora.store import file_sha256
from schemas.evaluation import EvaluationReport, ReportManifest, SetReport
from schemas.sampling import RenderRecord

TEMPLATE = "report.html.j2"
_SHORT = 8
_ROWS_A_SHEET = 12


def write_report(folder: Path, version: str, material: Material) -> ReportManifest:
    """Fills a report's folder.

    Args:
        folder: empty.
        version: of the report.
        material: what is reported.

    Returns:
        The manifest, which the caller writes last.
    """
    sheets = _write_sheets(folder / "sheets", material)
    report = assemble(material, sheets)
    (folder / "report.json").write_text(report.to_text(), encoding="utf-8")
    (folder / "report.html").write_text(render_html(report, material), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    return ReportManifest(
        name=material.contest.name,
        version=version,
        outcome=report.decision.outcome,
        digests=digests,
    )


def assemble(material: Material, sheets: Sequence[str]) -> EvaluationReport:
    """``report.json``'s content."""
    contest, findings = material.contest, material.findings
    sample, free = contest.config.sample, material.renders[ADAPTER].free
    judge_is_small = contest.config.evaluate.clip.startswith(MINIATURE)
    return EvaluationReport(
        adapter=contest.adapter.label,
        against=contest.rival.label if contest.rival.uses else "base",
        dataset=contest.dataset,
        base=free[0][0].base,
        preview=judge_is_small and not contest.config.base.model.startswith(MINIATURE),
        decision=findings.decision,
        scores=findings.arms[ADAPTER].scores,
        arms=tuple(findings.arms.values()),
        paired=findings.paired,
        remarks=findings.remarks,
        agreement=findings.agreement,
        worst=tuple(_set_report(free[n][k], rank) for n, k, rank in findings.worst),
        nearest=tuple(_set_report(free[n][k], near, key) for n, k, near, key in findings.nearest),
        judges=material.judges.labels(),
        params=contest.config.evaluate,
        limits=findings.limits,
        sampling={
            "steps": float(sample.steps),
            "guidance": sample.guidance,
            "true_cfg": sample.true_cfg,
        },
        prompts=material.suite.prompts,
        sheets=tuple(sheets),
    )


def _set_report(record: RenderRecord, value: float, nearest: str = "") -> SetReport:
    return SetReport(
        key=record.key, caption=record.caption, seed=record.seed, value=value, nearest=nearest
    )


def _write_sheets(folder: Path, material: Material) -> list[str]:
    """Contact sheets, adapter beside base and rival; a row a prompt, the first seed."""
    folder.mkdir(parents=True)
    sides = material.contest.sides
    names: list[str] = []
    side = material.contest.config.evaluate.sheet_side
    for start in range(0, len(material.suite.prompts), _ROWS_A_SHEET):
        prompts = material.suite.prompts[start : start + _ROWS_A_SHEET]
        rows = [
            [_canvas(material.renders[s.arm], start + number) for s in sides]
            for number in range(len(prompts))
        ]
        sheet = contact_sheet(rows, prompts, heads=[s.label for s in sides], side=side)
        name = f"sheet-{start // _ROWS_A_SHEET + 1:02}.jpg"
        sheet.save(folder / name, "JPEG", quality=QUALITY, subsampling=0)
        names.append(f"sheets/{name}")
    return names


def _canvas(renders: Renders, prompt: int, seed: int = 0) -> Image.Image:
    return open_picture(renders.folder / renders.free[prompt][seed].canvas)


def render_html(report: EvaluationReport, material: Material) -> str:
    """``report.html``."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = _pretty
    environment.filters["short"] = short
    return environment.get_template(TEMPLATE).render(**_context(report, material))


def _context(report: EvaluationReport, material: Material) -> dict[str, Any]:
    contest, findings = material.contest, material.findings
    return {
        "report": report,
        "contest": contest,
        "plots": score_plots(findings.arms),
        "titles": TITLES,
        "differences": {
            side.label: differences(findings.paired[side.arm], report.params.margins)
            for side in contest.sides
            if side.arm in findings.paired
        },
        "rows": rows(material),
        "conditional": completed(material),
        "worst": extremes(material, [(n, k) for n, k, _ in findings.worst]),
        "nearest": extremes(material, [(n, k) for n, k, _, _ in findings.nearest]),
        "training": {key: data_uri(image, material) for key, image in material.training.items()},
        "curve": loss_curve(material.losses),
        "withheld": material.suite.withheld,
        "tiles": tiles(findings.arms, findings.paired[contest.rival.arm]),
        "absent": absent(findings.arms),
        "unranked": _unranked(report),
    }


def _unranked(report: EvaluationReport) -> list[str]:
    """Metrics of which nothing can be said, because the truth is the same everywhere."""
    ranked = {row.metric for row in report.agreement if not row.strangers}
    return [
        TITLES[metric][0]
        for metric, truth in PAIRS
        if truth in report.scores and metric not in ranked
    ]


def short(label: str) -> str:
    """A version cut to what people compare: ``demo@ed600e47``."""
    name, at, version = label.partition("@")
    return f"{name}@{version[:_SHORT]}" if at else label


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def read_losses(journal: bytes) -> list[tuple[int, float]]:
    """Step and loss of every whole line of a ``metrics.jsonl`` that has both."""
    found: list[tuple[int, float]] = []
    for line in journal.decode().splitlines():
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError:
            continue  # a kill cut the last line short
        if isinstance(row.get("loss"), (int, float)) and math.isfinite(row["loss"]):
            found.append((int(row["step"]), float(row["loss"])))
    return found
