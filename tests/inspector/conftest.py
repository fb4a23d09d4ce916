"""What the tests of the inspector share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search take its time on a slow machine: a person gets what was found in a second."""
    monkeypatch.setattr("ninetailed_wsgi.service.search._SECONDS", 60.0)
