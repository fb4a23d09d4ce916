"""A real, deterministic Experience API for tests: the public names, nothing else.

Usable without pytest::

    from ninetailed_wsgi.testing import Harness, audience, experience, viewed

    with Harness() as harness:
        harness.publish(experience("hero", ["hero-b"], audience=audience(viewed("/pricing", at_least=2))))
        visitor = harness.visitor().views("/pricing").views("/pricing")
        assert visitor.variant("hero") == "hero-b"

Under pytest the fixtures of :mod:`ninetailed_wsgi.testing.plugin` give the same. The names are loaded when they are
first asked for: every pytest run of an environment that has this package imports this module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ninetailed_wsgi.authoring import (
        all_of,
        any_of,
        audience,
        entry,
        experience,
        experience_replacement,
        flag,
        fragment_replacement,
        from_campaign,
        having,
        located,
        merge_tag,
        metric,
        on_device,
        performed,
        replacement,
        returning,
        trait,
        variable,
        viewed,
        with_query,
    )
    from ninetailed_wsgi.contract.answers import Answer
    from ninetailed_wsgi.testing.client import Client, Refused
    from ninetailed_wsgi.testing.clock import Clock
    from ninetailed_wsgi.testing.companies import Companies
    from ninetailed_wsgi.testing.conforms import assert_conforms
    from ninetailed_wsgi.testing.contentful_space import ContentfulSpace
    from ninetailed_wsgi.testing.harness import Harness
    from ninetailed_wsgi.testing.live import LiveServer
    from ninetailed_wsgi.testing.locations import Locations
    from ninetailed_wsgi.testing.recording import Captured
    from ninetailed_wsgi.testing.visitor import Visitor

__all__ = [
    "Answer",
    "Captured",
    "Client",
    "Clock",
    "Companies",
    "ContentfulSpace",
    "Harness",
    "LiveServer",
    "Locations",
    "Refused",
    "Visitor",
    "all_of",
    "any_of",
    "assert_conforms",
    "audience",
    "entry",
    "experience",
    "experience_replacement",
    "flag",
    "fragment_replacement",
    "from_campaign",
    "having",
    "located",
    "merge_tag",
    "metric",
    "on_device",
    "performed",
    "replacement",
    "returning",
    "trait",
    "variable",
    "viewed",
    "with_query",
]

# Every other public name is a builder of `ninetailed_wsgi.authoring`.
_HOMES = {
    "Answer": "client",
    "Captured": "recording",
    "Client": "client",
    "Clock": "clock",
    "Companies": "companies",
    "ContentfulSpace": "contentful_space",
    "Harness": "harness",
    "LiveServer": "live",
    "Locations": "locations",
    "Refused": "client",
    "Visitor": "visitor",
    "assert_conforms": "conforms",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that has it (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}" if name in _HOMES else "ninetailed_wsgi.authoring"
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
