"""``python -m ninetailed_wsgi`` is the console script ``ninetailed-wsgi``."""

from __future__ import annotations

import sys

from ninetailed_wsgi.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
