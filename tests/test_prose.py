"""The mechanical half of CONTRIBUTING's section on words; ruff's pydocstyle holds the rest."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [
    path for room in ("schemas", "iclora", "tasks", "flows") for path in (ROOT / room).rglob("*.py")
]
ODD_OPENING = re.compile(
    r"(Of|What|Whether|Who|Whom|Whose|Those|Likewise|How|Where|Which|When|Nobody|Nothing|Tells|As) "
)


def docstrings(tree):
    """Yields the docstrings of a module: also the strings below fields and constants."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:  # a lambda's body is an expression
            match child:
                case ast.Expr(ast.Constant(str(text))):
                    yield child.lineno, text


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
