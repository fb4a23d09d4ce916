"""Prints the table of options for the documentation."""

from __future__ import annotations

from ninetailed_wsgi.settings import options_table

if __name__ == "__main__":
    print(options_table())
