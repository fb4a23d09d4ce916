"""Checks the layout that ARCHITECTURE.md promises; `make lint` runs it.

A module has at most 450 lines, a function at most 45 (a class counts by its methods), and the package at most eleven
rooms besides the names that users import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "ninetailed_wsgi"
MODULE_LINES, FUNCTION_LINES, ROOMS = 450, 45, 11

# What users import by name, and what is no module: links to data, the marker of type hints, the package itself.
IMPORTED = {"contract", "django", "errors", "jinja", "openfeature", "settings", "testing"}
NO_ROOMS = {"__init__", "__main__", "__pycache__", "cases", "py", "schemas"}

# Still to be split; remove a line when its module is within the limits, and add none.
LATER = ("service/service.py",)


def problems(package: Path) -> Iterator[str]:
    """Yield a line for each module, function and count that is over its limit."""
    rooms = sorted({path.name.split(".")[0] for path in package.iterdir()} - IMPORTED - NO_ROOMS)
    if len(rooms) > ROOMS:
        yield f"{package.name}: {len(rooms)} rooms, at most {ROOMS}: {', '.join(rooms)}"
    for file in sorted(package.rglob("*.py")):
        name, text = str(file.relative_to(package)), file.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MODULE_LINES:
            yield f"{name}: {lines} lines, at most {MODULE_LINES}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    yield f"{name}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"


def main() -> int:
    """Print every problem of a module that is not one for later, and every outdated mention; 1 when there is any."""
    every = list(problems(PACKAGE))
    found = [problem for problem in every if not problem.startswith(LATER)]
    found += [
        f"{name}: is within the limits; remove it from LATER"
        for name in LATER
        if not any(problem.startswith(name) for problem in every)
    ]
    print("\n".join(found) or f"layout: {len(list(PACKAGE.rglob('*.py')))} modules, {len(LATER)} still to be split")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
