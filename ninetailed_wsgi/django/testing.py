"""Lets the pages of a Django site under test ask a harness; the pytest plugin has the fixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.test import Client, override_settings

from ninetailed_wsgi.site.mount_options import MountOptions

if TYPE_CHECKING:
    from ninetailed_wsgi.testing.harness import Harness

_CLASS = "ninetailed_wsgi.django.Middleware"


@contextmanager
def client_of(harness: Harness) -> Iterator[Client]:
    """Yield a client of the site, whose pages have their visitor on the harness; ``force_login`` works as usual.

    The mount's own options in ``settings.NINETAILED``, such as ``consent``, stay. A site that wraps its WSGI app
    instead gets the middleware class for the test.
    """
    own = {name: value for name, value in getattr(settings, "NINETAILED", {}).items() if name in _MOUNT}
    options: dict[str, Any] = {
        "organization": harness.environment.organization,
        "environment": harness.environment.environment,
        "time_budget_ms": 30_000,  # a slow machine is no reason for a test to see baselines
        "settings": harness.settings,
        "service": harness.service,
    }
    classes = list(settings.MIDDLEWARE)
    with override_settings(
        NINETAILED={**own, **options}, MIDDLEWARE=classes if _CLASS in classes else [*classes, _CLASS]
    ):
        yield Client()


_MOUNT = frozenset(MountOptions.__dataclass_fields__)
