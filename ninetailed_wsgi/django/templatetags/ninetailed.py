"""Template tags for Django: thin faces over the visitor of the request that a template is rendered for.

Example::

    {% load ninetailed %}
    {% nt_variant hero as hero %}
    {% if hero %}<h1>{{ hero.title }}</h1>{% endif %}
    {% nt_flag "free-shipping-from" 50 as limit %}
    <p>Hello {% nt_merge_tag "traits.firstname" "friend" %}, free shipping from {{ limit }}</p>
    {% nt_browser %}

The template needs a request, as ``render(request, ...)`` gives it, or the variable ``visitor``. Text in
the template itself, such as a fallback, belongs to the author and is not escaped, as everywhere in Django.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context
from django.utils.safestring import SafeString, mark_safe

from ninetailed_wsgi.site.reaching import visitor_of
from ninetailed_wsgi.site.visitor import Visitor

register = template.Library()


@register.simple_tag(takes_context=True)
def nt_visitor(context: Context) -> Visitor:
    """``{% nt_visitor as visitor %}``: the visitor; outside the middleware, one who gets baselines."""
    visitor = context.get("visitor")
    request = getattr(context, "request", None) or context.get("request")
    return visitor if isinstance(visitor, Visitor) else visitor_of(request)


@register.simple_tag(takes_context=True)
def nt_variant(context: Context, entry: Any) -> Any:
    """``{% nt_variant hero as hero %}``: the entry to show, None if it is hidden."""
    return nt_visitor(context).variant(entry)


@register.simple_tag(takes_context=True)
def nt_flag(context: Context, key: str, default: Any = None) -> Any:
    """``{% nt_flag "free-shipping-from" 50 as limit %}``: the value of an inline variable."""
    return nt_visitor(context).flag(key, default)


@register.simple_tag(takes_context=True)
def nt_experience_variant(context: Context, entity: str) -> str | None:
    """``{% nt_experience_variant "exp-home" as variant %}``: the variant of a Contentful experience, None without."""
    return nt_visitor(context).experience_variant(entity)


@register.simple_tag(takes_context=True)
def nt_merge_tag(context: Context, path: str, fallback: str | None = None) -> str:
    """``{% nt_merge_tag "traits.firstname" "friend" %}``: a value of the profile, escaped."""
    return nt_visitor(context).merge_tag(path, fallback)


@register.simple_tag(takes_context=True)
def nt_render(context: Context, content: Any) -> Any:
    """``{% nt_render text %}``: text, or a rich text document, with its merge tags filled in; text is escaped."""
    return nt_visitor(context).render(content)


@register.simple_tag(takes_context=True)
def nt_track(context: Context, entry: Any) -> SafeString:
    """``<section {% nt_track hero %}>``: lets beacon.js report views and clicks of what is shown for a baseline."""
    return mark_safe(nt_visitor(context).track_attributes(entry))


@register.simple_tag(takes_context=True)
def nt_handoff(context: Context, version: int = 2) -> SafeString:
    """``<script>window.visitor = {% nt_handoff %}</script>``: JSON for the browser SDK; in script elements only."""
    return mark_safe(nt_visitor(context).handoff(version))


@register.simple_tag(takes_context=True)
def nt_browser(context: Context, version: int = 2, nonce: object = "") -> SafeString:
    """``{% nt_browser %}``: the block that the browser SDK reads; ``{% nt_browser nonce=csp_nonce %}``."""
    return mark_safe(nt_visitor(context).browser_snippet(version, nonce))


@register.simple_tag(takes_context=True)
def nt_identity_token(context: Context, user_id: object) -> str:
    """``{% nt_identity_token user.id %}``: a proof of who is logged in, for the browser SDK."""
    return nt_visitor(context).identity_token(user_id)
