"""How to use the harness anywhere: in unittest, in a script, in a Python session."""

from __future__ import annotations

import unittest

from ninetailed_wsgi.testing import Harness, audience, experience, trait


class PlanTest(unittest.TestCase):
    def setUp(self) -> None:
        self.harness = Harness([experience("menu", ["menu-pro"], audience=audience(trait("plan", "pro")))])
        self.addCleanup(self.harness.close)

    def test_who_has_the_plan_sees_its_menu(self) -> None:
        visitor = self.harness.visitor().identifies("user-1", plan="pro")
        assert visitor.variant("menu") == "menu-pro", visitor.why
