"""Fills the data folder of an example shop with made-up visitors, so that the inspector has something to show.

``make shop-flask`` and ``make shop-django`` run it; ``made_up_visitors.py FOLDER`` does nothing where there is data.
Beside the folder it writes a draft, in which the offer needs four looks at the prices, and the secret of links.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ninetailed_wsgi import create_app
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.testing import Client

ROOT = Path(__file__).resolve().parents[1]
CONTENT = ROOT / "fixtures" / "spaces" / "shop.json"
PREFIX = "/v2/organizations/default/environments/main"
PAGES = ("/", "/pricing", "/pricing/business", "/journal")
NAMES = ("Ada", "Ben", "Cleo", "Dario", "Edith", "Femi")
VISITORS = 60
GEO = ROOT / "fixtures" / "geo" / "demo.mmdb"
ADDRESSES = ("127.0.0.1", "127.0.0.1", "192.0.2.7", "203.0.113.200")  # Berlin twice, Tokyo, Salvador
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148",
)


def draft() -> dict[str, Any]:
    """Return the content of the shop, in which the offer needs four looks at the prices instead of two."""
    content: dict[str, Any] = json.loads(CONTENT.read_text(encoding="utf-8"))
    # What is not published yet would be a change of its own.
    content["entries"] = [entry for entry in content["entries"] if entry["sys"].get("publishedVersion")]
    for entry in content["entries"]:
        fields = entry["fields"]
        if fields.get("nt_audience_id", {}).get("en-US") == "pricing-visitors":
            fields["nt_rules"]["en-US"]["any"][0]["all"][0]["count"] = "4"
    return content


def visits(draw: random.Random, number: int, now: datetime) -> list[dict[str, Any]]:
    """Return the events of one visitor, the oldest first."""
    at = now - timedelta(days=draw.uniform(0, 9))
    agent, events = draw.choice(AGENTS), []
    for step in range(draw.randint(1, 9)):
        at = min(at + timedelta(minutes=draw.choice((1, 3, 9, 300))), now)
        path = draw.choice(PAGES)
        page = {"path": path, "query": {}, "referrer": "", "search": "", "url": f"https://shop.example{path}"}
        event: dict[str, Any] = {
            "channel": "web",
            "messageId": f"{number}-{step}",
            "originalTimestamp": at.isoformat(),
            "context": {"library": {"name": "made up", "version": "1.0.0"}, "page": page, "userAgent": agent},
        }
        if draw.random() < 0.15:
            events.append({**event, "type": "track", "event": "add_to_cart", "properties": {"tea": "sencha"}})
        elif draw.random() < 0.1:
            traits = {"firstname": draw.choice(NAMES), "plan": "member"}
            events.append({**event, "type": "identify", "userId": "", "traits": traits})
        else:
            events.append({**event, "type": "page", "properties": page})
    return events


def fill(folder: Path) -> None:
    """Send the events of all visitors to an API on the folder, then count what the draft would change."""
    client = Client(create_app(data_dir=folder, content=CONTENT, geoip_database=GEO, access="open"), PREFIX)
    draw, now = random.Random(9), datetime.now(UTC)
    for number in range(VISITORS):
        headers = {"X-Force-IP": draw.choice(ADDRESSES)}
        client.post("/profiles", {"events": visits(draw, number, now)}, headers=headers)
    (folder.parent / "draft.json").write_text(json.dumps(draft()), encoding="utf-8")
    with open(folder.parent / "secret", "w", opener=_private) as secret:
        secret.write(secrets.token_hex(32))
    options = ["--content", str(CONTENT), "--data-dir", str(folder), "--draft", str(folder.parent / "draft.json")]
    with contextlib.redirect_stdout(io.StringIO()):  # the inspector shows it
        main(["what-if", "default/main", "--keep", *options])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


if __name__ == "__main__":
    data = Path(sys.argv[1])
    if not data.exists():
        data.parent.mkdir(parents=True, exist_ok=True)
        fill(data)
