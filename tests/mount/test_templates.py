"""The helpers for Jinja2 and Django templates say what the visitor says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import flask
import pytest
from django.template import engines
from django.test import RequestFactory
from jinja2 import DictLoader, Environment

from ninetailed_wsgi.jinja import HELPERS
from ninetailed_wsgi.site import reaching
from ninetailed_wsgi.site.visitor import KEY
from tests.mount.browser import Environ
from tests.mount.conftest import ROOT, Mounted
from tests.mount.sites import Reply, set_django_up

OFFER = {"id": "pricing-offer", "variants": [{"id": "banner-offer", "title": "Ten percent off"}]}
BANNER = {"id": "banner", "title": "Free shipping from 50", "nt_experiences": [OFFER]}
JINJA = (
    "{% set shown = nt_variant(banner) %}{{ shown.id }}|{{ nt_flag('free-shipping-from', 50) }}|"
    "{{ nt_merge_tag('traits.firstname', '<friend>') }}|{{ nt_render('Hi {{ traits_firstname }}') }}|"
    "{{ nt_visitor().audiences }}|<script>{{ nt_handoff() }}</script>"
).replace("'Hi {{ traits_firstname }}'", "text")
DJANGO = (
    "{% load ninetailed %}{% nt_variant banner as shown %}{{ shown.id }}|{% nt_flag 'free-shipping-from' 50 %}|"
    "{% nt_merge_tag 'traits.firstname' '<friend>' %}|{% nt_render text %}|"
    "{% nt_visitor as visitor %}{{ visitor.audiences }}|<script>{% nt_handoff %}</script>"
)
# A template of Django that sets a variable sets it in the dict itself: each gets a copy.
CONTEXT = {"banner": BANNER, "text": "Hi {{ traits_firstname }}"}


def rendered_by_jinja(environ: Environ) -> str:
    environment = Environment(extensions=["ninetailed_wsgi.jinja.Ninetailed"], autoescape=True)
    return environment.from_string(JINJA).render(request=type("Request", (), {"environ": environ}), **CONTEXT)


def rendered_by_flask(environ: Environ) -> str:
    site = flask.Flask("site")
    site.jinja_env.add_extension("ninetailed_wsgi.jinja.Ninetailed")
    with site.request_context(environ):
        return flask.render_template_string(JINJA, **CONTEXT)


def rendered_with_globals(environ: Environ) -> str:
    environment = Environment(autoescape=True)
    environment.globals.update(HELPERS)
    return environment.from_string(JINJA).render(visitor=environ[KEY], **CONTEXT)


def rendered_by_django(environ: Environ) -> str:
    set_django_up()
    request = RequestFactory().get("/")
    request.environ = environ
    rendered: str = engines["django"].from_string(DJANGO).render({**CONTEXT}, request)
    return rendered


@pytest.mark.parametrize("render", [rendered_by_jinja, rendered_by_flask, rendered_with_globals, rendered_by_django])
def test_templates_show_what_the_visitor_gets(bare: Mounted, render: Any) -> None:
    def respond(environ: Environ) -> Reply:
        visitor = environ[KEY]
        visitor.track("add_to_cart")
        visitor.identify(firstname="<Anna>")
        visitor.page()
        return Reply(render(environ).encode())

    browser = bare.browser(respond)
    browser.get("/pricing")
    shown = browser.get("/pricing").text.split("|")
    assert shown[:4] == ["banner-offer", "30", "&lt;Anna&gt;", "Hi &lt;Anna&gt;"]
    assert "cart-abandoners" in shown[4]
    assert shown[5].startswith('<script>{"profile":{"id":"')
    assert "\\u003cAnna\\u003e" in shown[5]


def test_templates_without_the_middleware_show_baselines() -> None:
    set_django_up()
    environment = Environment(extensions=["ninetailed_wsgi.jinja.Ninetailed"], autoescape=True)
    for shown in (
        environment.from_string(JINJA).render(**CONTEXT),
        engines["django"].from_string(DJANGO).render({**CONTEXT}, RequestFactory().get("/")),
        engines["django"].from_string(DJANGO).render({**CONTEXT}),
    ):
        # Django takes a text in the template itself as the author's own markup.
        assert shown.replace("&lt;friend&gt;", "<friend>").split("|")[:4] == ["banner", "50", "<friend>", "Hi "]


@pytest.mark.parametrize(
    ("how", "shown", "warnings"), [("", "banner banner", 1), (" with context", "banner-offer banner-offer", 0)]
)
def test_a_macro_that_is_imported_without_the_request_shows_baselines_and_says_so_once(
    bare: Mounted,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
    shown: str,
    warnings: int,
) -> None:
    monkeypatch.setattr(reaching, "_NOWHERE", reaching._Nowhere())
    macro = "{% macro hero() %}{{ nt_variant('banner') }}{% endmacro %}"
    page = "{% import 'macros.html' as macros" + how + " %}{{ macros.hero() }} {{ macros.hero() }}"
    environment = Environment(
        extensions=["ninetailed_wsgi.jinja.Ninetailed"], loader=DictLoader({"macros.html": macro, "page.html": page})
    )

    def respond(environ: Environ) -> Reply:
        environ[KEY].page()
        request = type("Request", (), {"environ": environ})
        return Reply(environment.get_template("page.html").render(request=request).encode())

    browser = bare.browser(respond)
    browser.get("/pricing")
    caplog.clear()
    monkeypatch.setattr(reaching, "_NOWHERE", reaching._Nowhere())
    assert browser.get("/pricing").text == shown
    assert [record.getMessage().count("with context") for record in caplog.records] == [1] * warnings


def test_the_middleware_imports_no_template_engine_and_no_web_framework_of_the_site() -> None:
    program = (
        "import sys, ninetailed_wsgi; ninetailed_wsgi.Ninetailed(print);"
        "print([name for name in ('django', 'jinja2', 'flask', 'markupsafe', 'werkzeug') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"
