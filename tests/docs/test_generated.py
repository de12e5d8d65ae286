"""The generated pages are what the generator writes now."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate():
    spec = spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["presets.md", "config.md", "commands.md"])
def test_the_page_is_up_to_date(generate, name):
    committed = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert committed == generate.page(name), "run `make docs`"


def test_every_setting_is_explained(generate):
    rows = [line for line in generate.settings().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert not [row for row in rows if row.endswith("|  |")]


def test_every_command_is_there(generate):
    from iclora.cli.app import COMMANDS

    page = generate.commands()
    for command in COMMANDS:
        assert f"Usage: iclora {command.__name__.replace('_', '-')}" in page


def test_the_readme_states_the_size_of_the_weights():
    files = (ROOT / "iclora" / "miniature" / "weights").rglob("*.safetensors")
    size = sum(file.stat().st_size for file in files) / 1e6
    stated = re.search(r"carries ([\d.]+) MB of weights", (ROOT / "README.md").read_text("utf-8"))
    assert abs(float(stated[1]) - size) < 0.1, f"it is {size:.1f} MB"
