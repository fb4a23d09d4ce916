"""Environments and their names: one type, read in one way wherever a person writes one."""

from __future__ import annotations

import pytest

from ninetailed_wsgi.core.names import Environment, Key


def test_an_environment_is_read_as_it_is_written() -> None:
    environment = Environment.parse("acme/main")
    assert environment == ("acme", "main")
    assert str(environment) == "acme/main"
    assert environment.key("v1") == Key("acme", "main", "v1")


@pytest.mark.parametrize("text", ["", "acme", "/", "acme/", "/main", "acme/main/more", "acme//main"])
def test_another_form_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="expected organization/environment") as refusal:
        Environment.parse(text)
    assert repr(text) in str(refusal.value)
