"""Report files: ``report.json`` for machines, ``report.html`` for people, ``sheets/`` for both.

The HTML is a single file without network access, enforced by its content security policy: images
are data URIs, plots are inline SVG, and the template engine escapes all external text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from iclora.evaluation.agreement import PAIRS
from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.plots import loss_curve, score_plots
from iclora.evaluation.renders import open_picture
from iclora.evaluation.report_images import QUALITY, ReportData, completed, data_uri, extremes, rows
from iclora.evaluation.rule import rule_digest
from iclora.evaluation.score_tables import absent, differences, score_infos, tiles
from iclora.evaluation.scorers import ScoreInfo
from iclora.models.locate import is_demo
from iclora.sampling.contact_sheet import contact_sheet
from iclora.store import file_sha256
from schemas.evaluation import EvaluationReport, ReportManifest, SetReport
from schemas.sampling import RenderRecord

TEMPLATE = "report.html.j2"
_SHORT = 8
_ROWS_PER_SHEET = 12


def write_report(folder: Path, version: str, data: ReportData) -> ReportManifest:
    """Writes a report's files into a folder.

    Args:
        folder: empty output folder.
        version: version of the report.
        data: content of the report.

    Returns:
        The manifest, which the caller writes last.
    """
    sheets = _write_sheets(folder / "sheets", data)
    report = _assemble(data, sheets)
    (folder / "report.json").write_text(report.to_text(), encoding="utf-8")
    (folder / "report.html").write_text(_render_html(report, data), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    return ReportManifest(
        name=data.plan.name,
        version=version,
        outcome=report.decision.outcome,
        digests=digests,
    )


def _assemble(data: ReportData, sheets: Sequence[str]) -> EvaluationReport:
    """Assembles the content of ``report.json``."""
    plan, results = data.plan, data.results
    sample, free = plan.config.sample, data.renders[ADAPTER].free
    clip_is_small = is_demo(plan.config.evaluate.clip)
    return EvaluationReport(
        adapter=plan.adapter.label,
        against=plan.baseline.label if plan.baseline.adapters else "base",
        dataset=plan.dataset,
        base=free[0][0].base,
        preview=clip_is_small and not is_demo(plan.config.base.model),
        decision=results.decision,
        scores=results.arms[ADAPTER].scores,
        arms=tuple(results.arms.values()),
        paired=results.paired,
        remarks=results.remarks,
        agreement=results.agreement,
        worst=tuple(_set_report(free[n][k], rank) for n, k, rank in results.worst),
        nearest=tuple(_set_report(free[n][k], near, key) for n, k, near, key in results.nearest),
        judges=data.scorers.labels(),
        params=plan.config.evaluate,
        rule=rule_digest(plan.rule) if plan.rule else "",
        overrides=plan.overrides,
        limits=results.limits,
        sampling={
            "steps": float(sample.steps),
            "guidance": sample.guidance,
            "true_cfg": sample.true_cfg,
        },
        prompts=data.prompts.prompts,
        sheets=tuple(sheets),
    )


def _set_report(record: RenderRecord, value: float, nearest: str = "") -> SetReport:
    return SetReport(
        key=record.key, caption=record.caption, seed=record.seed, value=value, nearest=nearest
    )


def _write_sheets(folder: Path, data: ReportData) -> list[str]:
    """Writes contact sheets of all arms; one row per prompt, first seed only."""
    folder.mkdir(parents=True)
    arms, prompts = data.plan.arms, data.prompts.prompts
    side = data.plan.config.evaluate.sheet_side
    names: list[str] = []
    for start in range(0, len(prompts), _ROWS_PER_SHEET):
        labels = prompts[start : start + _ROWS_PER_SHEET]
        pictures = [
            [
                open_picture(renders.folder / renders.free[prompt][0].canvas)
                for renders in (data.renders[arm.name] for arm in arms)
            ]
            for prompt in range(start, start + len(labels))
        ]
        sheet = contact_sheet(pictures, labels, heads=[arm.label for arm in arms], side=side)
        name = f"sheet-{start // _ROWS_PER_SHEET + 1:02}.jpg"
        sheet.save(folder / name, "JPEG", quality=QUALITY, subsampling=0)
        names.append(f"sheets/{name}")
    return names


def _render_html(report: EvaluationReport, data: ReportData) -> str:
    """Renders ``report.html``."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = _pretty
    environment.filters["short"] = short
    plan, results = data.plan, data.results
    infos, margins = score_infos(data.scorers), report.params.margins
    own, paired = results.arms[ADAPTER].scores, results.paired
    return environment.get_template(TEMPLATE).render(
        report=report,
        plan=plan,
        infos=infos,
        plots=score_plots(results.arms, infos),
        differences={
            arm.label: differences(paired[arm.name], margins, infos)
            for arm in plan.arms
            if arm.name in paired
        },
        rows=rows(data),
        conditional=completed(data),
        worst=extremes(data, [(n, k) for n, k, _ in results.worst]),
        nearest=extremes(data, [(n, k) for n, k, _, _ in results.nearest]),
        training={key: data_uri(image, data) for key, image in data.training.items()},
        curve=loss_curve(data.losses),
        withheld=data.prompts.withheld,
        tiles=tiles(own, paired[plan.baseline.name], infos),
        absent=absent(results.arms, infos),
        unranked=_unranked(report, infos),
    )


def _unranked(report: EvaluationReport, infos: Mapping[str, ScoreInfo]) -> list[str]:
    """Lists metrics that cannot be assessed because the true score is constant."""
    ranked = {row.metric for row in report.agreement if not row.strangers}
    return [
        infos[metric].title
        for metric, truth in PAIRS
        if truth in report.scores and metric not in ranked
    ]


def short(label: str) -> str:
    """Shortens a version for display: ``demo@ed600e47``."""
    name, at, version = label.partition("@")
    return f"{name}@{version[:_SHORT]}" if at else label


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def read_losses(metrics: bytes) -> list[tuple[int, float]]:
    """Reads step and loss from every complete line of ``metrics.jsonl`` that has both."""
    losses: list[tuple[int, float]] = []
    for line in metrics.decode().splitlines():
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError:
            continue  # a kill cut the last line short
        if isinstance(row.get("loss"), (int, float)) and math.isfinite(row["loss"]):
            losses.append((int(row["step"]), float(row["loss"])))
    return losses
