"""How Django knows the app."""

from __future__ import annotations

from django.apps import AppConfig


class NinetailedConfig(AppConfig):
    """An app without models; its label avoids Django's own names."""

    name = "ninetailed_wsgi.django"
    label = "ninetailed"
    verbose_name = "Ninetailed"
