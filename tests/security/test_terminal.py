"""Every command prints what came from outside with nothing in it that steers a terminal or makes up a line."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from support import component, identify, of, page, track

from ninetailed_wsgi.commands.main import COMMANDS, main
from ninetailed_wsgi.service.keys import changing, new_key
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings

HOSTILE = "x\nFORGED\r\x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2066\x00\tend"
FILE = HOSTILE.replace("\0", "")  # no system lets a file be named with it
WHERE = f"acme/{HOSTILE}"
EVERYBODY = {"any": [{"all": [{"type": "page", "operator": "greaterThan", "count": "0"}]}]}
CONTENT = {
    "audiences": [{"id": f"audience {HOSTILE}", "name": HOSTILE, "rules": EVERYBODY}],
    "experiences": [
        {
            "id": f"experience {HOSTILE}",
            "name": HOSTILE,
            "type": "nt_experiment",
            "audience": f"audience {HOSTILE}",
            "config": {
                "traffic": 1,
                "distribution": [0.5, 0.5],
                "primaryMetric": "m",
                "components": [
                    {"type": "EntryReplacement", "baseline": {"id": HOSTILE}, "variants": [{"id": f"v{HOSTILE}"}]}
                ],
            },
        }
    ],
    "metrics": [{"id": "m", "name": HOSTILE, "type": "binary", "event": HOSTILE}],
}
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NINETAILED_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of everything that a stranger, an author or another program can put before a command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "content.json").write_text(json.dumps(CONTENT))
    (tmp_path / "broken.json").write_text("{" + HOSTILE)
    (tmp_path / FILE).mkdir()
    (tmp_path / "secret").write_text("a secret of more than thirty-two bytes")
    (tmp_path / "ids.txt").write_text("nobody\x1b[2J\n")
    event = of(HOSTILE, track(HOSTILE))
    (tmp_path / "events.ndjson").write_text("".join(json.dumps(line) + "\n" for line in (event, {HOSTILE: HOSTILE})))
    settings = Settings(data_dir=tmp_path / "data", content=tmp_path / "content.json", store_shards=2)
    service = ExperienceService.from_settings(settings)
    where = service.environment("acme", HOSTILE)
    seen = component(f"experience {HOSTILE}", 0, properties={HOSTILE: HOSTILE})
    events = [page(f"/{HOSTILE}"), identify(f"user {HOSTILE}", {HOSTILE: HOSTILE}), track(HOSTILE), seen]
    service.upsert(where, HOSTILE, {"events": events})
    service.upsert(where, "old", {"events": [page(timestamp="2020-01-01T00:00:00Z")]})
    service.store.close()
    with changing(tmp_path / "keys.json") as keys:
        _, entry = new_key("crm", ["read"], 0)
        keys.append(entry._replace(name=HOSTILE))
    return tmp_path


PREVIEW = ["--for", WHERE, "--content", "content.json", "--identity-secret-file", "secret"]
LINES: dict[str, list[tuple[int, list[str]]]] = {
    "init": [(0, []), (0, ["--python"]), (0, [FILE]), (1, ["content.json/no"])],
    "content": [
        (0, ["show", "--content", "content.json"]),
        (0, ["convert", "--to", "contentful", "--content", "content.json"]),
        (0, ["schema"]),
        (2, ["show", "--content", "broken.json"]),
    ],
    "preview-link": [
        (0, ["https://shop.example/", "--trait", f"x={HOSTILE}", *PREVIEW]),
        (1, ["https://shop.example/", "--experience", f"{HOSTILE}=1", *PREVIEW]),
        (2, [HOSTILE, *PREVIEW]),
        (2, [f"https://{HOSTILE}/"]),
    ],
    "serve": [(2, ["--content", FILE, "--bind", HOSTILE])],
    "check": [(0, ["--content", "content.json"]), (1, ["--content", "broken.json"]), (1, ["--bind", HOSTILE])],
    "explain": [(0, [WHERE, HOSTILE, "--content", "content.json"]), (1, [WHERE, f"no {HOSTILE}"])],
    "contract": [
        (2, ["--base-url", "http://127.0.0.1:1", "--organization", HOSTILE]),
        (2, ["--base-url", HOSTILE, "--organization", "acme"]),
    ],
    "import": [(1, ["events.ndjson", WHERE]), (1, [FILE, WHERE]), (2, ["events.ndjson", HOSTILE])],
    "export": [(0, [WHERE, "--events"]), (0, [WHERE, HOSTILE]), (1, [WHERE, f"no {HOSTILE}"])],
    "delete": [(0, [WHERE, "ids.txt"]), (1, [WHERE, FILE])],
    "expire": [(0, [WHERE, "--inactive-days", "30"]), (2, [WHERE, "--inactive-days", HOSTILE])],
    "stats": [(0, []), (0, [WHERE])],
    "migrate": [(0, ["--to", "elsewhere"]), (0, ["--to", "elsewhere", "--final"]), (2, ["--to", f"redis://{HOSTILE}"])],
    "results": [(0, [WHERE, "--content", "content.json"]), (1, [WHERE, f"no {HOSTILE}", "--content", "content.json"])],
    "backup": [(0, ["copy"]), (2, ["content.json"])],
    "key": [
        (0, ["list", "--keys-file", "keys.json"]),
        (2, ["revoke", f"no {HOSTILE}", "--keys-file", "keys.json"]),
        (0, ["revoke", HOSTILE, "--keys-file", "keys.json"]),
    ],
    "what-if": [
        (0, [WHERE, "--content", "content.json", "--draft", "content.json"]),
        (0, [WHERE, "--draft", "content.json"]),
        (2, [WHERE, "--draft", "broken.json"]),
        (2, [WHERE, "--draft", "content.json", "--at", HOSTILE]),
    ],
    "upgrade": [(0, [])],
    "compact": [(0, [])],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_what_steers_a_terminal(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for status, line in LINES[command]:
        data = [] if command in ("key", "contract", "init", "content") else ["--data-dir", "data"]
        assert main([command, *line, *data]) == status, (line, capsys.readouterr())
        told = capsys.readouterr()
        assert told.out or told.err
        for text in (told.out, told.err):
            assert not STEERING.search(text), text
            assert not [part for part in text.split("\n") if part.startswith("FORGED")], text


def test_what_argparse_says_of_a_wrong_word_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["key", "new", HOSTILE, "--scope", "read"])
    assert not STEERING.search(capsys.readouterr().err)


def test_an_exported_profile_is_the_same_after_escaping(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", WHERE, HOSTILE, "--data-dir", "data"]) == 0
    assert json.loads(capsys.readouterr().out)["profile"]["traits"] == {HOSTILE: HOSTILE}


def test_streams_are_as_before_when_a_command_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit):
        main(["--version"])
    assert (sys.stdout, sys.stderr) == before
