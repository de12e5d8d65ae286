"""The mechanical half of CONTRIBUTING's section on words; ruff's pydocstyle holds the rest."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [path for room in ("schemas", "iclora", "tasks", "flows") for path in (ROOT / room).rglob("*.py")]
ODD_OPENING = re.compile(
    r"(Of|What|Whether|Who|Whom|Whose|Those|Likewise|How|Where|Which|When|Nobody|Nothing|Tells|As) "
)


def docstrings(tree):
    """Yields the docstrings of a module: also the strings below fields and constants."""
    for node in ast.walk(tree):
        for child in getattr(node, "body", None) or []:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                if isinstance(child.value.value, str):
                    yield child.lineno, child.value.value


def test_no_docstring_opens_oddly():
    odd = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip().splitlines()[0]}"
        for path in FILES
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if ODD_OPENING.match(text.strip())
    ]
    assert not odd, "\n".join(odd)


def test_class_names_are_unique():
    places = defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name.strip("_")].append(str(path.relative_to(ROOT)))
    reused = {name: files for name, files in places.items() if len(files) > 1}
    assert not reused
