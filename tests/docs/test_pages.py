"""What the pages tell people to type does what the pages say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from iclora.cli.app import make_app, run
from iclora.presets import load_config

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
)
RUNS_US = ("make test", "make drills", "make check")
"""Of these commands this test is a part."""

LANGUAGES = {"sh", "python", "toml", "json", "yaml", "diff", "text"}
WORDS = {"", "slow", "elsewhere"}
"""What the word behind a language can be, if it is no file's name."""

_LINK = re.compile(r"\]\(([^)\s]+)\)")


STAND_INS = {
    "black-forest-labs/FLUX.1-dev": "miniature/flux",
    "width=1024": "width=64",
    "height=1536": "height=192",
    "num_inference_steps=20": "num_inference_steps=2",
    "torch.bfloat16": "torch.float32",
}
"""What a page's Python is run with here in place of released weights."""


def lines_of(text: str) -> list[str]:
    joined = text.replace("\\\n", "")
    stripped = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def iclora(line: str) -> None:
    """In this process: a new one would load torch again."""
    assert run(shlex.split(line)[1:]) == 0, line


def shell(line: str, *, really: bool) -> None:
    if line.startswith("make ") and (not really or line in RUNS_US):
        line = f"{line} --dry-run --file {ROOT / 'Makefile'}"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], env=environment, check=False, text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def check(line: str) -> None:
    """The options of an ``iclora`` command parse, and its preset and settings are known."""
    words = shlex.split(line)
    if words[0] != "iclora":
        return
    command = make_typer_command(words[1])
    given = command.make_context(words[1], words[2:], resilient_parsing=False).params
    preset, base = given.get("preset") or "", given.get("base") or ""
    load_config(preset, given.get("overrides") or (), base=base)


def make_typer_command(name: str):
    import typer.main

    return typer.main.get_command(make_app()).commands[name]


def follow(blocks, *, slow: bool) -> None:
    """Does what a page says, in its order."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        if block.word not in WORDS:
            Path(block.word).write_text(block.text, encoding="utf-8")
    for block in blocks:
        if block.word == "elsewhere" and block.language == "sh":
            for line in lines_of(block.text):
                check(line)
        elif block.word not in WORDS or (block.word == "slow" and not slow):
            continue
        elif block.language == "sh":
            for line in lines_of(block.text):
                iclora(line) if line.startswith("iclora ") else shell(line, really=slow)
        elif block.language == "python":
            exec(compile(stood_in(block.text), "page", "exec"), names)  # noqa: S102 - our own page


def stood_in(code: str) -> str:
    from iclora.models.locate import locate

    for released, small in STAND_INS.items():
        if released in code:
            here = str(locate(small).folder) if small.startswith("miniature/") else small
            code = code.replace(released, here)
    return code


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_what_they_are(page, blocks):
    for block in blocks(page):
        assert block.language in LANGUAGES, block
    assert (ROOT / page).read_text(encoding="utf-8").count("\n```") % 2 == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in _LINK.findall(text):
        if "://" in link or link.startswith("#"):
            continue
        target = (ROOT / page).parent / unquote(link.partition("#")[0])
        assert target.exists(), f"{page} links to {link}"


EXTENDING = [page for page in PAGES if "/write-a-" in page]
"""Their code goes into a copy of the checkout: test_extending.py."""


@pytest.mark.parametrize("page", [page for page in PAGES if page not in EXTENDING])
@pytest.mark.usefixtures("place")
def test_the_page_does_what_it_says(page, blocks):
    follow(blocks(page), slow=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [page for page in PAGES if page not in EXTENDING])
def test_its_long_commands_too(page, blocks, request):
    if not any(block.word == "slow" for block in blocks(page)):
        return
    request.getfixturevalue("checkout")
    try:
        follow(blocks(page), slow=True)
    finally:
        shell("make down", really=True)


@pytest.fixture
def checkout(seed_place, tmp_path, monkeypatch) -> Path:
    """This checkout somewhere else, with films in it, and with a Prefect of its own."""
    import socket

    here = tmp_path / "checkout"
    shutil.copytree(ROOT, here, ignore=shutil.ignore_patterns(".git", ".venv", "store", ".operate"))
    (here / ".venv").symlink_to(ROOT / ".venv")
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(here / name, (0, 0))  # the environment is there: make shall not make it
    shutil.copytree(seed_place, here, dirs_exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.chdir(here)
    iclora("iclora train storyboard --set train.steps=1 --set train.batch=1")
    return here
