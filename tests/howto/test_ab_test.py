"""How to test both sides of an A/B test: each variant can be forced for every visitor."""

from __future__ import annotations

import pytest

from ninetailed_wsgi.testing import Harness, Visitor, experience, flag

BUTTON = experience("button", ["button-b"], distribution=[0.5, 0.5], traffic=0.2, id="button-test")
THEME = flag("theme", control="light", variants=["dark"], distribution=[0.5, 0.5])


@pytest.mark.ninetailed(content=[BUTTON, THEME])
@pytest.mark.parametrize(("index", "button", "theme"), [(0, "button", "light"), (1, "button-b", "dark")])
def test_both_sides(ninetailed: Harness, ninetailed_visitor: Visitor, index: int, button: str, theme: str) -> None:
    ninetailed.force(BUTTON, index)
    ninetailed.force(THEME, index)

    ninetailed_visitor.views("/")
    assert ninetailed_visitor.variant("button") == button
    assert ninetailed_visitor.flag("theme") == theme
