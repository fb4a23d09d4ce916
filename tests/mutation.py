"""Says how many mutants of the rules the tests killed, after `make mutation`; ends with 1 below 85 of 100."""

from __future__ import annotations

import json
import sys
from pathlib import Path

WANTED = 85

counts = json.loads(Path("mutants/mutmut-cicd-stats.json").read_text())
killed = counts["killed"] + counts["timeout"] + counts["segfault"]
total = counts["total"] - counts["not_checked"] - counts["skipped"]
share = 100 * killed / total
print(f"{killed} of {total} mutants of ninetailed_wsgi/core killed: {share:.1f} %")
sys.exit(share < WANTED)
