"""Makes links to previews: an address with signed overrides in its query (spec section 13)."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.service.identity_tokens import IdentityTokens

NAME = "nt_preview"
"""The parameter of a link, and the name of the cookie that it becomes."""

LONGEST = 3000
"""The most characters of a token, so that its cookie stays below the 4,096 that browsers keep (RFC 6265, 6.1)."""


def signed_link(
    tokens: IdentityTokens, environment: tuple[str, str], url: str, overrides: Overrides, seconds: int
) -> str:
    """Return an address that opens a page in a preview; a preview that the address already has is replaced.

    Raises:
        ValueError: the overrides are too long for a cookie, or ``seconds`` is out of range.
    """
    token = tokens.sign("preview-link", *environment, overrides.document(), seconds)
    if len(token) > LONGEST:
        raise ValueError(
            f"the overrides of a preview take {len(token)} characters as a link, expected at most {LONGEST}: "
            "override fewer traits"
        )
    parts = urlsplit(url)
    query = "&".join([*without_preview(parts.query), f"{NAME}={token}"])
    return urlunsplit(parts._replace(query=query))


def without_preview(query: str) -> list[str]:
    """Return the parts of a query without its preview."""
    return [part for part in query.split("&") if part and part.partition("=")[0] != NAME]
