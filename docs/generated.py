"""The parts of the reference that code knows best, as Markdown: options, commands and the HTTP API.

Pages under ``reference/`` name them with ``<!-- generated: NAME -->``. Nothing is kept: each build asks the code again,
and only through its public entrances, so that modules may move.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from ninetailed_wsgi.settings import OPTIONS, USES
from ninetailed_wsgi.testing import Client, Harness

METHODS = ("get", "post", "put", "delete", "options", "head", "patch")


def options() -> str:
    """Return every option with its spellings, default and use, as a definition list."""
    parts = []
    for option in OPTIONS:
        text = re.sub(r"docs/([a-z]+)[.]md", _link, option.help)
        default = f"default `{option.default_text}`" if option.default_text else "no default"
        details = f"Variable `{option.variable}`, {default}. Used by {USES[option.use]}."
        parts.append(f"`{option.flag} {option.metavar}`\n: {text}\n\n  {details}")
    return "\n\n".join(parts)


def _link(name: re.Match[str]) -> str:
    exists = (Path(__file__).parent / f"{name[1]}.md").exists()
    return f"[{name[1].capitalize()}](../{name[1]}.md)" if exists else name[0]


def help_text(*arguments: str) -> str:
    """Return what the command line prints for these arguments and ``--help``."""
    from ninetailed_wsgi.commands.main import main

    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "92", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main([*arguments, "--help"])
    return printed.getvalue().strip()


def command_names() -> list[str]:
    """Return the names of all commands in the order of the usage texts, parts of a command after it (``key new``)."""
    names = []
    for name in _listed(help_text()):
        names += [name, *(f"{name} {part}" for part in _listed(help_text(name)))]
    return names


def _listed(text: str) -> list[str]:
    return re.findall(r"^    ([a-z][a-z-]*)(?: {2}|$)", re.split(r"(?:commands|actions):\n", text)[-1], re.MULTILINE)


def commands() -> str:
    """Return each command with its usage text."""
    parts = [f"```text\n{help_text()}\n```"]
    parts += [f"## {name}\n\n```text\n{help_text(*name.split())}\n```" for name in command_names()]
    return "\n\n".join(parts)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document that a server answers, with the routes that are off by default."""
    with Harness(explain=True) as harness:
        document: dict[str, Any] = json.loads(Client(harness.app).get("/openapi.json").body)
    return document


def http() -> str:
    """Return the HTTP API, operation by operation, from its OpenAPI document."""
    document = openapi()
    tags = {tag["name"]: tag.get("description", "") for tag in document.get("tags", [])}
    parts = []
    for tag, about in tags.items():
        parts.append(f"## {tag.capitalize()}\n\n{about}")
        parts += [
            _operation(document, method, path, operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in METHODS and method != "options" and tag in operation.get("tags", ())
        ]
    return "\n\n".join(parts)


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    shorter = path.replace("/v2/organizations/{organizationId}/environments/{environmentSlug}", "…")
    summary, description = operation.get("summary", "").rstrip("."), operation.get("description", "")
    parts = [f"### {summary or operation['operationId']}", f"`{method.upper()} {shorter}`"]
    parts += [description] if description else []
    parts += list(_parameters(document, operation))
    parts += list(_body(document, operation))
    rows = ["| status | meaning |", "| --- | --- |"]
    for status, reference in operation["responses"].items():
        answer = _resolved(document, reference)
        code = _example(answer).get("error") or {}
        suffix = f" `{code['code']}`" if code.get("code") else ""
        rows.append(f"| {status}{suffix} | {_cell(answer.get('description', ''))} |")
    parts.append("\n".join(rows))
    success = _resolved(document, operation["responses"].get("200", {}))
    if example := _example(success):
        parts.append(f"```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```")
    return "\n\n".join(parts)


def _parameters(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[str]:
    parameters = [_resolved(document, each) for each in operation.get("parameters", ())]
    rows = [
        f"| `{each['name']}` | {each['in']} | {_cell(each.get('description', ''))} |"
        for each in parameters
        if each["name"] not in ("organizationId", "environmentSlug", "traceparent")
    ]
    if rows:
        yield "\n".join(["| parameter | in | meaning |", "| --- | --- | --- |", *rows])


def _body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[str]:
    content = _resolved(document, operation.get("requestBody", {})).get("content", {}).get("application/json")
    if not content:
        return
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    if name:
        yield f"The body is JSON of the schema `{name}`."
    for example in list(content.get("examples", {}).values())[:1]:
        value = _resolved(document, example).get("value")
        yield f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"


def _example(answer: Mapping[str, Any]) -> dict[str, Any]:
    example = answer.get("content", {}).get("application/json", {}).get("example")
    return example if isinstance(example, dict) else {}


def _resolved(document: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        value: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            value = value[step]
        part = value
    return dict(part)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


PARTS: Mapping[str, Callable[[], str]] = {"options": options, "commands": commands, "http": http}
