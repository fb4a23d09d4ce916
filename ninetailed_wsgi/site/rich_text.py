"""Finds the merge tags that rich text only links to, in the content that decided about the visitor of a page."""

from __future__ import annotations

import json
from collections.abc import Callable

from ninetailed_wsgi.core.merge_tags import Linked
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.site.conversation import Conversation


def linked_merge_tags(conversation: Conversation, hint: Callable[[str, str], object]) -> Linked:
    """Return what finds path and fallback of a published merge tag by the id of its entry.

    Args:
        conversation: has the content.
        hint: reports once that a link does not lead to a published merge tag.
    """

    def linked(entry: str, in_line: bool) -> tuple[str, str | None] | None:
        conversation.answer()
        tag = conversation.published.merge_tag(entry)
        if tag is None and in_line and conversation.published.content:
            name = json.dumps(shorten(entry))
            message = f"visitor.render: rich text links to the entry {name}, which is not a published merge tag"
            hint(f"linked {name}", f"{message}; shown as it is")
        return tag

    return linked
