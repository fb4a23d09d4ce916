"""Checks the layout that ARCHITECTURE.md promises; `make lint` runs it.

A module has at most 450 lines, a function at most 45, a class at most 16 methods of its own, and the package at most
eleven rooms besides the names that users import. No name is a participle of the list below: a name says what it holds.
A few things are done in one module alone, and a class name or an alias is that of one thing. What is public has a
docstring, which describes no argument and no attribute that does not exist.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "ninetailed_wsgi"
MODULE_LINES, FUNCTION_LINES, METHODS, ROOMS = 450, 45, 16, 11

# What users import by name, and what is no module: links to data, the marker of type hints, the package itself.
IMPORTED = {"authoring", "contract", "django", "errors", "jinja", "openfeature", "settings", "testing"}
NO_ROOMS = {"__init__", "__main__", "__pycache__", "cases", "py", "schemas"}

# Classes with more methods: each is a verb that users, commands or both stores are promised, and most are a few lines.
FACADES = {
    "ExperienceService": "the public operations of the API",
    "Harness": "what tests of a site call",
    "Visitor": "what pages and templates of a site call, and another one what its tests call",
}

FORKS, IDENTITY = "operations/forks.py", "store/identity.py"

# What one module does for all others, by the call that it takes. Besides, `FORKS` alone compares process ids, and
# `IDENTITY` alone tells a profile, one that is being merged and a pointer apart.
SINGLE = {
    "os.replace": "operations/files.py",  # a file is written as a whole or not at all
    "os.rename": "operations/files.py",
    "os.register_at_fork": FORKS,
}

# Names that several modules have, for the same thing: any other class or alias is the only one of its name.
TWICE = {
    **dict.fromkeys(
        ("Audience", "Condition", "Experience", "MergeTag", "Metric", "Rule"),
        "as somebody wrote it, and as it is compiled",
    ),
    "BrowserSdk": "the one of a Django site",
    "Companies": "what stands in for it in a harness",
    "Environ": "that of WSGI, which only a middleware changes",
    "Json": "a part of a document",
    "Ninetailed": "the class that a site uses, of WSGI and of Jinja",
    "Place": "what a location database says of an address",
    "Visitor": "in a page, and in a test",
}

# A noun says what a name holds; these say only that something happened to it.
PARTICIPLES = frozenset(
    """
    asked begun believed chosen compared complained copied counted described done doubted drawn explained found given
    gone held judged kept known lasted left listed looked made meant named noted remembered said seen sent served shown
    stored taken told tried vouched wanted
    """.split()
)


def problems(package: Path) -> Iterator[str]:
    """Yield a line for each module, class, function and count that is over its limit."""
    rooms = sorted({path.name.split(".")[0] for path in package.iterdir()} - IMPORTED - NO_ROOMS)
    if len(rooms) > ROOMS:
        yield f"{package.name}: {len(rooms)} rooms, at most {ROOMS}: {', '.join(rooms)}"
    homes: dict[str, str] = {}
    for file in sorted(package.rglob("*.py")):
        name, text = str(file.relative_to(package)), file.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MODULE_LINES:
            yield f"{name}: {lines} lines, at most {MODULE_LINES}"
        for node in ast.walk(tree := ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name not in FACADES:
                methods = sum(isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) for member in node.body)
                if methods > METHODS:
                    yield f"{name}: {node.name} has {methods} methods, at most {METHODS}"
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    yield f"{name}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"
        for line, text, home in elsewhere(tree, name):
            yield f"{name}:{line}: {text} is for {home} alone"
        for line, thing in things(tree):
            if homes.setdefault(thing, name) != name and thing not in TWICE:
                yield f"{name}:{line}: {thing} is the name of something else in {homes[thing]}"
        for line, participle in sorted(set(participles(tree))):
            yield f"{name}:{line}: {participle} is a participle, name what it holds"
        for line, thing in described_in_vain(tree):
            yield f"{name}:{line}: the docstring describes {thing}, which does not exist"
        for line, thing in without_docstring(tree):
            yield f"{name}:{line}: {thing} has no docstring"


def things(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of each class and each alias of a type that a module defines, without its underscore."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                pass
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                continue
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if not re.match(r"_?[A-Z]+[a-z]", name):  # a constant
                    continue
            case _:
                continue
        yield node.lineno, name.strip("_")


def participles(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of what a module calls by a participle alone: a class, function, parameter or variable."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                pass
            case ast.arg(arg=name) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                pass
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                pass
            case _:
                continue
        if name.strip("_").lower() in PARTICIPLES:
            yield node.lineno, name


def elsewhere(tree: ast.Module, name: str) -> Iterator[tuple[int, str, str]]:
    """Yield line and text of what a module does that is another one's, and that one."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute():
                home = SINGLE.get(ast.unparse(node), name)
            case ast.Compare(left=ast.Constant("to" | "into"), ops=[ast.In() | ast.NotIn()]):
                home = IDENTITY
            case ast.Compare() if "os.getpid()" in ast.unparse(node):
                home = FORKS
            case _:
                continue
        if home != name:
            yield node.lineno, ast.unparse(node), home


def without_docstring(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of each public class and function of a module that does not say what it is for."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_" and not ast.get_docstring(node):
            yield node.lineno, node.name


def described_in_vain(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of each argument and attribute that a docstring describes and that is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments, attributes = _arguments(node), set[str]()
        elif isinstance(node, ast.ClassDef):
            attributes = _attributes(node)
            makers = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
            arguments = _arguments(makers[0]) if makers else attributes
        else:
            continue
        text = ast.get_docstring(node) or ""
        for title, there in (("Args", arguments), ("Attributes", attributes)):
            for name in _described(text, title):
                if name not in there:
                    yield node.lineno, name


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}


def _attributes(tree: ast.ClassDef) -> set[str]:
    names = {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
    for node in ast.walk(tree):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store())
                | ast.AnnAssign(target=ast.Name(id=name))
            ):
                names.add(name)
    return names


def _described(text: str, title: str) -> list[str]:
    """Return the names that a section of a docstring begins its lines with: ``name:``, or ``name, other:``."""
    section = re.search(rf"^{title}:\n((?: +.*\n|\n)+)", text + "\n", re.MULTILINE)
    heads = re.findall(r"^    (\S[^:\n]*):", section[1], re.MULTILINE) if section else []
    return [name.strip("*") for head in heads for name in head.split(", ")]


def main() -> int:
    """Print every problem; return 1 when there is any."""
    lines = list(problems(PACKAGE))
    print("\n".join(lines) or f"layout: {len(list(PACKAGE.rglob('*.py')))} modules within the limits")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
