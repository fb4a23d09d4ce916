"""The panel at the edge of a page: who gets it, the markup that brings it, and the switches that it has.

A page in a preview, or for people whom the site trusts, ends with a block of JSON and the script ``{prefix}/panel.js``.
A switch is an address below the prefix, ``{prefix}/panel``, which changes the preview's cookie and leads back to the
page. It requires the proof that is in the page, so no page of another site can use it (spec section 13).
"""

from __future__ import annotations

import hashlib
import hmac
import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.service.identity_tokens import IdentityTokens
from ninetailed_wsgi.service.preview_links import NAME
from ninetailed_wsgi.site import beacon
from ninetailed_wsgi.site.answer_headers import Headers
from ninetailed_wsgi.site.conversation import PANEL, explanations
from ninetailed_wsgi.site.insertion import MARK, Insertion
from ninetailed_wsgi.site.page_view import cookies_of
from ninetailed_wsgi.site.panel_view import ascii_script_json, view
from ninetailed_wsgi.site.previews import LIFE, SEEN_ONCE, PageAnswer, Previews, drop_conditions
from ninetailed_wsgi.site.visitor import Visitor

NONCE = "ninetailed.nonce"
"""Where a site puts the nonce of a page's Content-Security-Policy into the environ, if no header of the page has it."""

SCRIPT, SWITCH = "/panel.js", "/panel"
"""Below the prefix."""

_FOREIGN = "This switch belongs to another page, or to an earlier preview. Go back and reload the page."
_PATIENCE = 2.0  # seconds that a page waits for each of the panel's two explanations, at most
_POLICIES = ("content-security-policy", "content-security-policy-report-only")
_NONCE = re.compile(r"'nonce-([A-Za-z0-9+/_-]+={0,2})'", re.IGNORECASE)
_MOST_FIELDS = 10
_INDEX = re.compile(r"[0-9]{1,4}")


class Panel:
    """The panel of one site.

    Args:
        previews: those of the site.
        tokens: sign the proof that a switch was in a page of the site.
        where: organization and environment.
        place: gives the path of the API for a request.
        allowed: decides from an environ whether its sender gets the panel outside of a preview too; None: nobody does.
        check: raises InvalidData where overrides name what the content does not have.
        report: gets what fails.
    """

    def __init__(
        self,
        previews: Previews,
        tokens: IdentityTokens,
        where: tuple[str, str],
        place: Callable[[str], str],
        allowed: Callable[[Mapping[str, Any]], bool] | None,
        check: Callable[[Overrides], None],
        report: Callable[[str, Exception], None],
    ) -> None:
        self._previews = previews
        self._tokens = tokens
        self._where = where
        self._place = place
        self._allowed = allowed
        self._check = check
        self._report = report

    def insertion(
        self, environ: dict[str, Any], visitor: Visitor, start_response: Callable[..., Any]
    ) -> Insertion | None:
        """Return what puts the panel into the answer to a request; None for a request that gets no panel.

        For a request with a panel, the site is asked for the whole page without compression.
        """
        if not self.is_due(environ):
            return None
        self.prepare(environ)
        # The path as it is now: dispatchers inside the site change it.
        return Insertion(environ, start_response, partial(self.markup, visitor, environ.get("SCRIPT_NAME", "")))

    def is_due(self, environ: Mapping[str, Any]) -> bool:
        """Return whether a request is made in a preview, or by somebody whom the site trusts."""
        return self._previews.overrides(environ) is not None or self._trusts(environ)

    def prepare(self, environ: dict[str, Any]) -> None:
        """Note in an environ that its page gets the panel, and let the site send an answer that can be changed."""
        environ[PANEL] = True
        environ.pop("HTTP_ACCEPT_ENCODING", None)
        drop_conditions(environ)

    def markup(self, visitor: Visitor, root: str, headers: Headers, nonce: str = "") -> bytes:
        """Return the elements that bring the panel, as ASCII; nothing where it fails.

        Args:
            root: the path at which the middleware is mounted, as WSGI has it.
            headers: of the page; their policy gives the nonce if neither ``nonce`` nor the environ does.
        """
        try:
            prefix = self._place(root)
            nonce = nonce or str(visitor.environ.get(NONCE) or "") or _nonce_of(headers)
            attribute = f' nonce="{html.escape(nonce)}"' if nonce else ""
            data = ascii_script_json(self._document(visitor, prefix))
            block = f'<script type="application/json" {MARK.decode()}>{data}</script>'
            source = html.escape(prefix + SCRIPT)
            return f'{block}<script src="{source}"{attribute} defer></script>'.encode("ascii", "xmlcharrefreplace")
        except Exception as error:
            self._report("panel", error)
            return b""

    def answer(self, environ: Mapping[str, Any]) -> PageAnswer | None:
        """Return what answers a request below the prefix; None where it is not for the panel."""
        path = environ.get("PATH_INFO")
        if path == SWITCH:
            return self._switched(environ)
        return _script(environ) if path == SCRIPT else None

    def _switched(self, environ: Mapping[str, Any]) -> PageAnswer:
        """Return what answers a switch: the way back to its page, or an error for a person."""
        if environ.get("REQUEST_METHOD") != "GET":
            return _problem("405 Method Not Allowed", "A switch of the panel is a GET.", ("Allow", "GET"))
        try:
            fields = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return _problem("400 Bad Request", "This is not a switch of the panel.")
        first = {name: values[0] for name, values in fields.items()}
        overrides, trusted = self._previews.overrides(environ), self._trusts(environ)
        if overrides is None and not trusted:
            return _problem("403 Forbidden", "This preview has ended. Open its link again, or ask for a new one.")
        if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin" or not self._is_proven(environ, first):
            return _problem("403 Forbidden", _FOREIGN)
        try:
            changed, whole = _changed(overrides or Overrides(), first)
            self._check(changed)
            seconds = LIFE if trusted else max(1, self._previews.seconds_left(environ))
            return self._previews.moved(environ, first.get("back", "/"), whole, seconds)
        except (InvalidData, ValueError) as error:
            return _problem("400 Bad Request", f"This switch changes nothing: {error}.")

    def _document(self, visitor: Visitor, prefix: str) -> dict[str, Any]:
        conversation, environ = visitor.attend(), visitor.environ
        why, natural = explanations(conversation, _PATIENCE)
        document: dict[str, Any] = {
            "preview": conversation.preview is not None,
            "left": self._previews.seconds_left(environ),
            "switch": prefix + SWITCH,
            "proof": self._tokens.sign("panel", *self._where, {"of": _digest(environ)}, LIFE),
        }
        if why.data is None or natural.data is None:
            return {**document, "failed": True, "experiences": [], "audiences": [], "unlisted": [0, 0], "rest": []}
        published = why.content.experiences.experiences
        return document | view(
            conversation.parts_of_page.parts, why.data, natural.data, conversation.preview, published
        )

    def _is_proven(self, environ: Mapping[str, Any], fields: Mapping[str, str]) -> bool:
        content = self._tokens.read("panel", *self._where, fields.get("proof"))
        return content is not None and hmac.compare_digest(str(content.get("of", "")), _digest(environ))

    def _trusts(self, environ: Mapping[str, Any]) -> bool:
        if self._allowed is None:
            return False
        try:
            return bool(self._allowed(environ))
        except Exception as error:
            self._report("panel", error)
            return False


@cache
def script() -> bytes:
    """Return the script of the panel, the same for every site, without indentation and comments of whole lines."""
    source = (resources.files("ninetailed_wsgi.site") / "panel.js").read_bytes()
    lines = (line.strip() for line in source.splitlines())
    return b"\n".join(line for line in lines if line and not line.startswith(b"//"))


def _script(environ: Mapping[str, Any]) -> PageAnswer:
    started: list[Any] = []
    data = script()
    etag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
    body = b"".join(beacon.answer(environ, lambda *arguments: started.extend(arguments), data, etag))
    return PageAnswer(started[0], [*started[1], ("Cross-Origin-Resource-Policy", "same-origin")], body)


def _digest(environ: Mapping[str, Any]) -> str:
    """Return what a proof is bound to: the cookie of the preview, so that one person's proof is invalid for another."""
    return hashlib.sha256(cookies_of(environ).get(NAME, "").encode("utf-8", "replace")).hexdigest()[:32]


def _changed(overrides: Overrides, fields: Mapping[str, str]) -> tuple[Overrides, Overrides]:
    """Return the override that a switch sets, alone, and all overrides including it; InvalidData if it sets none."""
    to = fields.get("to", "")
    audiences, experiences = dict(overrides.audiences), dict(overrides.experiences)
    one = Overrides(content=overrides.content)
    if (id := fields.get("audience")) is not None and to in ("on", "off", "auto"):
        audiences.pop(id, None)
        if to != "auto":
            audiences[id] = to == "on"
            one = Overrides(audiences={id: to == "on"}, content=overrides.content)
    elif (id := fields.get("experience")) is not None and (to == "auto" or _INDEX.fullmatch(to)):
        experiences.pop(id, None)
        if to != "auto":
            experiences[id] = int(to)
            one = Overrides(experiences={id: int(to)}, content=overrides.content)
    else:
        raise InvalidData("expected an audience with on, off or auto, or an experience with the index of a variant")
    return one, replace(overrides, audiences=audiences, experiences=experiences)


def _nonce_of(headers: Sequence[tuple[str, str]]) -> str:
    """Return the nonce with which the policy of a page lets scripts run; empty without one."""
    for policy in _POLICIES:
        for name, value in headers:
            if name.lower() == policy:
                directives = {part.strip().partition(" ")[0].lower(): part for part in value.split(";")}
                for directive in ("script-src-elem", "script-src", "default-src"):
                    if directive in directives and (match := _NONCE.search(directives[directive])):
                        return match[1]
    return ""


def _problem(status: str, text: str, *headers: tuple[str, str]) -> PageAnswer:
    body = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Preview</title>\n<h1>{html.escape(text)}</h1>\n</html>\n"
    ).encode("utf-8", "replace")
    fixed = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Content-Security-Policy", "default-src 'none'"),
        ("X-Content-Type-Options", "nosniff"),
        *SEEN_ONCE,
    ]
    return PageAnswer(status, [*fixed, *headers], body)
