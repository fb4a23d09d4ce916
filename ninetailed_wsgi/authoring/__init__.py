"""Audiences, experiences, flags and metrics in a few words of Python: experiments as code.

Each builder returns published content in the generic form (spec section 7): plain JSON, as
``schemas/content.schema.json`` describes it. ``Ninetailed(app, content=[...])``, ``create_app(content=[...])``,
``--content package.module:name`` and a test's harness serve a list of such items::

    from ninetailed_wsgi.authoring import audience, experience, viewed

    interested = audience(viewed("/pricing", at_least=2), id="interested", name="Viewed the prices at least twice")
    content = [experience("hero", ["hero-offer"], audience=interested, id="pricing-offer")]

Default ids depend on an item's content, never on where its code is.
"""

from __future__ import annotations

from ninetailed_wsgi.authoring.audiences import (
    Condition,
    Rule,
    Value,
    all_of,
    any_of,
    audience,
    from_campaign,
    having,
    located,
    on_device,
    performed,
    returning,
    trait,
    viewed,
    with_query,
)
from ninetailed_wsgi.authoring.experiences import (
    Component,
    entry,
    experience,
    experience_replacement,
    flag,
    fragment_replacement,
    merge_tag,
    metric,
    replacement,
    variable,
)
from ninetailed_wsgi.authoring.items import Audience, Entry, Experience, Item, MergeTag, Metric

__all__ = [
    "Audience",
    "Component",
    "Condition",
    "Entry",
    "Experience",
    "Item",
    "MergeTag",
    "Metric",
    "Rule",
    "Value",
    "all_of",
    "any_of",
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
