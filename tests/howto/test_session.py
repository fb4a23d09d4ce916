"""How to test what happens in a visitor's next session, without waiting for it."""

from __future__ import annotations

from ninetailed_wsgi.testing import Harness, Visitor, audience, experience, returning

WELCOME = experience("hero", ["hero-welcome-back"], audience=audience(returning(), id="returning-visitors"))


def test_who_comes_back_is_welcomed_back(ninetailed: Harness, ninetailed_visitor: Visitor) -> None:
    ninetailed.publish(WELCOME)

    ninetailed_visitor.views("/")
    assert ninetailed_visitor.variant("hero") == "hero"

    ninetailed_visitor.waits(minutes=31).views("/")
    assert ninetailed_visitor.session["count"] == 2
    assert ninetailed_visitor.variant("hero") == "hero-welcome-back"
