"""How long a big space takes to be read, how much memory, and how soon a change afterwards is served.

A space of 50,000 entries of 3 kB, of which 300 decide, is made and served by a process of its own. This one reads it
for the first time, follows a change of one audience, and starts again. Run it alone:

    .venv/bin/python benchmarks/big_space.py [--entries 50000] [--official]

``--official`` reads the same space with Contentful's own Python client, for comparison; it needs ``contentful``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ninetailed_wsgi.settings.contentful import SpaceAddress, Tokens
from ninetailed_wsgi.testing import ContentfulSpace, audience, experience, trait, viewed

DECIDE = 300
BODY = "Tea is a hot drink. " * 130


def content(entries: int) -> list[dict[str, Any]]:
    """Audiences and experiences among pages of about 3 kB."""
    pages = [
        {"sys": {"id": f"page-{number}", "contentType": "page"}, "fields": {"title": f"Page {number}", "body": BODY}}
        for number in range(entries - DECIDE)
    ]
    audiences = [audience(viewed(f"/{number}"), id=f"audience-{number}") for number in range(DECIDE // 2)]
    experiences = [
        experience(f"page-{number}", [f"page-{number + 1}"], audience=f"audience-{number}", id=f"experience-{number}")
        for number in range(DECIDE // 2)
    ]
    return [*pages, *audiences, *experiences]


def serve(entries: int, pipe: Any) -> None:
    """Serve the space; publish a changed audience whenever the other side says so."""
    with ContentfulSpace(content(entries)) as space:
        pipe.send((space.url, space.token))
        while pipe.recv():
            space.publish(audience(trait("changed"), id="audience-0"))
            pipe.send(time.time())


def peak() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def read(url: str, token: str, folder: Path, pipe: Any) -> dict[str, Any]:
    """Read the space with this software; return the figures."""
    from ninetailed_wsgi.content.contentful.content import ContentfulContent

    def opened(poll: float) -> ContentfulContent:
        spaces = [SpaceAddress.parse("contentful://space1/master")]
        return ContentfulContent(spaces, Tokens.parse(token), url=url, folder=folder, poll=poll)

    before, begun = peak(), time.perf_counter()
    source = opened(600)
    source.load()
    first = time.perf_counter() - begun
    figures = {"first_seconds": round(first, 2), "first_mb": round(peak() - before, 1), "process_mb": round(peak(), 1)}
    figures["kept_kb"] = round(sum(file.stat().st_size for file in folder.iterdir()) / 1e3, 1)
    version = source.catalogs()["space1/master"].version
    pipe.send(True)
    published = pipe.recv()
    source.refresh()
    source.look()
    figures["change_seconds"] = round(time.time() - published, 3)
    assert source.catalogs()["space1/master"].version != version
    begun = time.perf_counter()
    opened(600).load()
    figures["restart_seconds"] = round(time.perf_counter() - begun, 3)
    return figures


def official(url: str, token: str) -> dict[str, Any]:
    """Read everything once with Contentful's own client."""
    import contentful

    before, begun = peak(), time.perf_counter()
    host = url.removeprefix("http://")
    client = contentful.Client("space1", token, api_url=host, https=False, timeout_s=60)
    page = client.sync({"initial": True, "limit": 500})
    kept = [item for item in page.items if item.sys["content_type"].id.startswith("nt_")]
    while page.next_page_url:
        page = page.next(client)
        kept += [item for item in page.items if item.sys["content_type"].id.startswith("nt_")]
    return {"official_seconds": round(time.perf_counter() - begun, 2), "official_mb": round(peak() - before, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--official", action="store_true")
    arguments = parser.parse_args()
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    server = spawned.Process(target=serve, args=(arguments.entries, theirs), daemon=True)
    server.start()
    url, token = ours.recv()
    try:
        if arguments.official:
            figures = official(url, token)
        else:
            with tempfile.TemporaryDirectory() as folder:
                figures = read(url, token, Path(folder), ours)
        json.dump({"entries": arguments.entries, "decide": DECIDE, **figures}, sys.stdout, indent=1)
        print()
    finally:
        ours.send(False)
        server.join()


if __name__ == "__main__":
    main()
