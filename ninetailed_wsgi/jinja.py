"""Template helpers for Jinja2: short forms of the methods of a request's visitor.

Example, in Flask::

    app.jinja_env.add_extension("ninetailed_wsgi.jinja.Ninetailed")

and in a template::

    {% set hero = nt_variant(hero) %}
    {% if hero %}<h1>{{ hero.title }}</h1>{% endif %}
    <p>Hello {{ nt_merge_tag("traits.firstname", "friend") }}</p>
    <p>Free shipping from {{ nt_flag("free-shipping-from", 50) }}</p>
    {{ nt_browser() }}

The template needs the variable ``request``, as Flask, Pyramid, Django and Starlette pass it, or the ``visitor`` itself.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, pass_context
from jinja2.ext import Extension
from jinja2.runtime import Context
from markupsafe import Markup

from ninetailed_wsgi.site.reaching import visitor_of
from ninetailed_wsgi.site.visitor import Visitor


class Ninetailed(Extension):
    """Adds the functions of `HELPERS`: ``nt_visitor``, ``nt_variant``, ``nt_flag`` and the others of this module."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals.update(HELPERS)


@pass_context
def nt_visitor(context: Context) -> Visitor:
    """Return the visitor; outside the middleware, one who gets baselines."""
    visitor = context.get("visitor")
    return visitor if isinstance(visitor, Visitor) else visitor_of(context.get("request") or {})


@pass_context
def nt_variant(context: Context, entry: Any) -> Any:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.variant`: the entry to show, None if it is hidden."""
    return nt_visitor(context).variant(entry)


@pass_context
def nt_flag(context: Context, key: str, default: Any = None) -> Any:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.flag`."""
    return nt_visitor(context).flag(key, default)


@pass_context
def nt_experience_variant(context: Context, entity: str) -> str | None:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.experience_variant`."""
    return nt_visitor(context).experience_variant(entity)


@pass_context
def nt_merge_tag(context: Context, path: str, fallback: str | None = None) -> str:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.merge_tag`; escaped like any text of a template."""
    return nt_visitor(context).merge_tag(path, fallback)


@pass_context
def nt_render(context: Context, content: Any) -> Any:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.render`; text is escaped as a whole."""
    return nt_visitor(context).render(content)


@pass_context
def nt_track(context: Context, entry: Any) -> Markup:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.track_attributes`: ``<section {{ nt_track(hero) }}>``."""
    return Markup(nt_visitor(context).track_attributes(entry))


@pass_context
def nt_handoff(context: Context, version: int = 2) -> Markup:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.handoff`; for script elements only."""
    return Markup(nt_visitor(context).handoff(version))


@pass_context
def nt_browser(context: Context, version: int = 2, nonce: object = "") -> Markup:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.browser_snippet`: the block that the browser SDK reads."""
    return Markup(nt_visitor(context).browser_snippet(version, nonce))


@pass_context
def nt_identity_token(context: Context, user_id: object) -> str:
    """See :meth:`~ninetailed_wsgi.site.visitor.Visitor.identity_token`: a proof of who is logged in."""
    return nt_visitor(context).identity_token(user_id)


_HELPERS = (
    nt_visitor,
    nt_variant,
    nt_flag,
    nt_experience_variant,
    nt_merge_tag,
    nt_render,
    nt_track,
    nt_handoff,
    nt_browser,
    nt_identity_token,
)
HELPERS = {helper.__name__: helper for helper in _HELPERS}
"""The helpers by name, for environments that take globals instead of extensions."""
