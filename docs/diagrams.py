"""Diagrams: Mermaid text in a page, drawn as SVG beforehand.

Mermaid draws in a browser, and a page that loads it needs several megabytes of script. So the drawings are kept in
``docs/_static/``, named by a hash of their text. ``make diagrams`` draws those that are missing, with Mermaid from npm
in headless Chromium; building the site needs neither. A site without a drawing shows the text.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "_static"
ROOT = FOLDER.parent.parent
FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def path_of(text: str) -> Path:
    """Return where the drawing of this Mermaid text is kept."""
    return FOLDER / f"diagram-{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"


def drawn(page: str) -> str:
    """Return the page with each Mermaid fence as its drawing, or as text where nobody has drawn it."""
    return FENCE.sub(_drawing, page)


def _drawing(match: re.Match[str]) -> str:
    path = path_of(match[1])
    if not path.exists():
        return f"```text\n{match[1]}```"
    title = re.search(r"^\s*accTitle: (.+)$", match[1], re.MULTILINE)
    alt = title[1].strip() if title else "Diagram"
    return f'<div class="diagram">\n\n![{alt}](/_static/{path.name})\n\n</div>'


MERMAID = "mermaid@11.12.0"
PAGE = """<!doctype html><meta charset="utf-8"><pre id="text">%s</pre><div id="drawing"></div>
<script src="package/dist/mermaid.min.js"></script><script>
  const text = document.getElementById("text").textContent;
  // Labels as SVG text: an image shows no HTML inside SVG.
  mermaid.initialize({ startOnLoad: false, theme: "neutral", htmlLabels: false, flowchart: { htmlLabels: false } });
  mermaid.render("diagram", text).then(({ svg }) => { document.getElementById("drawing").innerHTML = svg; });
</script>"""
CHROMIUM = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --allow-file-access-from-files --virtual-time-budget=20000 --dump-dom"
).split()


def texts() -> list[str]:
    """Return the Mermaid text of every diagram of the site, which does not show the README."""
    pages = {*ROOT.glob("*.md"), *FOLDER.parent.rglob("*.md")} - {ROOT / "README.md"}
    return [text for page in sorted(pages) for text in FENCE.findall(page.read_text(encoding="utf-8"))]


def draw(text: str, folder: Path) -> str:
    """Return the SVG of this Mermaid text; ``folder`` holds the unpacked npm package."""
    page = folder / "page.html"
    page.write_text(PAGE % text.replace("&", "&amp;").replace("<", "&lt;"), encoding="utf-8")
    command = [*CHROMIUM, f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    drawing = re.search(r'<div id="drawing">(<svg.*</svg>)</div>', dom, re.DOTALL)
    if drawing is None or "Syntax error" in drawing[1]:
        raise SystemExit(f"Mermaid could not draw this:\n{text}")
    # An image needs a namespace and a size of its own; the style Mermaid gives fits a page.
    size = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', drawing[1])
    assert size is not None, "Mermaid names the size of a drawing"
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", drawing[1], count=1).replace("<br>", "<br/>")
    namespace = "" if "xmlns=" in svg.partition(">")[0] else ' xmlns="http://www.w3.org/2000/svg"'
    return svg.replace("<svg", f'<svg{namespace} width="{float(size[1]):.0f}" height="{float(size[2]):.0f}"', 1) + "\n"


def main() -> None:
    """Draw the diagrams that have no drawing, and remove drawings that no page shows."""
    wanted = {path_of(text): text for text in texts()}
    for path in set(FOLDER.glob("diagram-*.svg")) - set(wanted):
        path.unlink()
    missing = {path: text for path, text in wanted.items() if not path.exists()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if missing:
            subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            shutil.unpack_archive(next(folder.glob("*.tgz")), folder, filter="data")
        for path, text in missing.items():
            path.write_text(draw(text, folder), encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
