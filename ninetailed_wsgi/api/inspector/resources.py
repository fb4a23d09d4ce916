"""The routes of the inspector: each page, its JSON twin, and what its forms do (spec section 14)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import falcon
import orjson
from falcon import Request, Response

from ninetailed_wsgi.api.inspector import views
from ninetailed_wsgi.api.inspector.forms import (
    DEVICES,
    KINDS,
    Form,
    choices,
    device_of,
    events_of,
    overrides_of,
    read_form,
)
from ninetailed_wsgi.api.inspector.pages import Pages
from ninetailed_wsgi.api.inspector.viewers import Viewer, Viewers
from ninetailed_wsgi.api.resources import Edge
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import (
    Forbidden,
    InvalidData,
    NinetailedError,
    ProfileNotFound,
    RateLimited,
    RouteNotFound,
    StoreUnavailable,
    Unauthorized,
)
from ninetailed_wsgi.insights import drafts
from ninetailed_wsgi.service.access import Terms
from ninetailed_wsgi.service.preview_links import signed_link
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings

PREFIX = "/inspector"
_LONGEST_FORM = 65_536
_SHORTEST_BEGINNING = 6  # characters of an id that are searched for
_LONGEST_NAME = 100  # characters of the name of a draft
_SIGNED_OUT = "You are no longer signed in, so nothing was done. Sign in, then do it again."
_LOSES = " Your form is too long to be brought back after that: sign in in another tab instead, then reload this page."
_BACK = "You are signed in. Here is your form: nothing of it was done yet, so send it again."
_LINK_LIFE = 24 * 60 * 60
_EMPTY_PLAY: Mapping[str, Any] = {
    "sides": [],
    "compared": [],
    "link": "",
    "wrong": "",
    "devices": DEVICES,
    "kinds": KINDS,
}
_log = logging.getLogger("ninetailed_wsgi")


def add_inspector(app: Any, edge: Edge, settings: Settings) -> None:
    """Add the routes of the inspector to the API."""
    page = Inspector(edge, settings)
    for path in ("", "/", "/{page:path}"):
        app.add_route(PREFIX + path, page)


class Inspector:
    """Every page below ``/inspector/``: finds the page, the viewer and the environment, and answers HTML or JSON."""

    def __init__(self, edge: Edge, settings: Settings) -> None:
        self._edge = edge
        self._service = edge.service
        self._settings = settings
        environments = settings.environments
        self._default = Environment.parse(environments[0]) if environments else None
        self._viewers = Viewers(edge, settings.inspector if callable(settings.inspector) else None)
        self._pages = Pages()

    def on_get(self, req: Request, resp: Response, page: str = "") -> None:
        if page in ("", "/"):
            raise falcon.HTTPSeeOther(f"{req.root_path}{PREFIX}/find", headers={"Cache-Control": "no-store"})
        self._answer(req, resp, page, self._show)

    on_head = on_get  # the server leaves out the body

    def on_post(self, req: Request, resp: Response, page: str = "") -> None:
        self._answer(req, resp, page, self._submit)

    def _answer(
        self, req: Request, resp: Response, page: str, work: Callable[[Request, Response, str, Viewer], None]
    ) -> None:
        """Do the work of a page; an error becomes a page for a person, and the API's envelope for a program."""
        as_json = page.endswith(".json")
        try:
            viewer = self._viewer(req, resp, page)
            if viewer is not None:
                work(req, resp, page, viewer)
        except Unauthorized:
            if as_json or req.env.get("HTTP_AUTHORIZATION"):
                raise
            resp.status = falcon.HTTP_401
            self._ask_for_key(req, resp, page)
        except NinetailedError as error:
            if as_json:
                raise
            resp.status = falcon.code_to_http_status(error.status)
            self._render(resp, req, "problem", {"message": str(error)}, None)

    # Who

    def _viewer(self, req: Request, resp: Response, page: str) -> Viewer | None:
        """Return the viewer; None if a sign-in or sign-out was answered."""
        if req.method == "POST":
            self._viewers.check_origin(req)
        if page == "sign-out" and req.method == "POST":
            viewer = self._viewers.of(req)
            self._viewers.check_form(viewer, read_form(req, _LONGEST_FORM).text("proof"))
            self._viewers.sign_out(req, resp)
            _see(req, resp, "find")
            return None
        if page == "sign-in" and req.method == "POST":
            self._sign_in(req, resp, read_form(req, _LONGEST_FORM))
            return None
        return self._viewers.of(req)

    def _ask_for_key(self, req: Request, resp: Response, page: str) -> None:
        """Answer the form of a sign-in; it brings along a form that came after the end of the last one."""
        values: dict[str, Any] = {"wrong": "", "next": page, "fields": {}}
        if req.method == "POST":
            fields = None
            with suppress(NinetailedError):  # no form, or too long: the answer is the same
                fields = read_form(req, _LONGEST_FORM).portable()
            values |= {"wrong": _SIGNED_OUT if fields is not None else _SIGNED_OUT + _LOSES, "fields": fields or {}}
            values["next"] = "" if page == "sign-out" else page
        self._render(resp, req, "sign_in", values, self._viewers.newcomer(req, resp))

    def _sign_in(self, req: Request, resp: Response, form: Form) -> None:
        newcomer, fields, next = self._viewers.newcomer(req, resp), form.with_prefix("form:"), form.text("next")
        try:
            self._viewers.check_form(newcomer, form.text("proof"))
            viewer = self._viewers.sign_in(req, resp, newcomer, form.text("key"))
        except (Forbidden, RateLimited) as error:
            resp.status = falcon.code_to_http_status(error.status)
            if error.retry_after:
                resp.set_header("Retry-After", str(error.retry_after))
            values = {"wrong": str(error), "next": next, "fields": fields}
            self._render(resp, req, "sign_in", values, newcomer)
            return
        if fields:
            self._show(req, resp, next, viewer, Form(fields), _BACK)
        else:
            _see(req, resp, next or "find")

    # What is shown

    def _show(
        self, req: Request, resp: Response, page: str, viewer: Viewer, form: Form | None = None, notice: str = ""
    ) -> None:
        """Answer a page; with a form and a notice, because it was not accepted and must not be lost."""
        where = self._where(req)
        kind, _, id = page.removesuffix(".json").partition("/")
        if kind == "exports" and id and page.endswith(".json"):
            self._export(resp, where, id, viewer)
            return
        document, template = self._document(kind, id, where, viewer)
        if page.endswith(".json"):
            _json(resp, document)
            return
        if form is None:
            site = "{}://{}/".format(*self._edge.address.origin(req.env)) if req.root_path else ""
            form = Form({"visitor": req.get_param("visitor") or "", "url": site} if template == "playground" else {})
        more: dict[str, Any] = {"form": form, "notice": notice, "hits": None, "wrong": ""}
        if template == "playground":
            more |= {**_EMPTY_PLAY, "choices": choices(form, document)}
        if template in ("audience", "experience", "what_if"):
            more["names"] = views.names(self._service, where)
        if template == "what_if":
            more["rewritten"] = views.rewritten(self._service, where, document)
        self._render(resp, req, template, {"document": document, **more}, viewer)

    def _export(self, resp: Response, where: Environment, id: str, viewer: Viewer) -> None:
        """Answer all that is stored about a visitor, as a file; the option ``history_bytes`` bounds its events."""
        record = self._service.record(where, id, events=True)
        details = {"profile": record["profile"]["id"][:12], "name": viewer.name}
        _log.info("%(name)s exported the visitor %(profile)s... from the inspector", details)
        _json(resp, record)
        resp.set_header("Content-Disposition", 'attachment; filename="visitor.json"')

    def _document(self, kind: str, id: str, where: Environment, viewer: Viewer) -> tuple[dict[str, Any], str]:
        service, data_dir = self._service, self._edge.data_dir
        if kind == "visitors" and id:
            document = views.visitor(service, where, id)
            details = {"profile": document["profile"]["id"][:12], "name": viewer.name}
            _log.info("the inspector showed the visitor %(profile)s... to %(name)s", details)
            return document, "visitor"
        if kind == "audiences" and id:
            return views.audience(service, where, id, data_dir), "audience"
        if kind == "experiences" and id:
            return views.experience(service, where, id, data_dir), "experience"
        if not id and kind in ("find", "playground"):
            return views.content(service, where), kind
        if not id and kind == "live":
            _log.info("%(name)s watches the live page of the inspector", {"name": viewer.name})
            return views.live(service, where, "", "", ""), kind
        if not id and kind == "what-if":
            return views.what_if(data_dir, where), "what_if"
        if not id and kind == "state":
            return views.state(service, where, self._edge.access, self._settings), kind
        raise RouteNotFound("the inspector has no such page")

    # What forms do

    def _submit(self, req: Request, resp: Response, page: str, viewer: Viewer) -> None:
        kind, _, id = page.removesuffix(".json").partition("/")
        most = self._edge.max_body_bytes
        limit = most if kind in ("what-if", "playground") else min(_LONGEST_FORM, most)
        form = read_form(req, limit)
        where, as_json = self._where(req), page.endswith(".json")
        try:
            self._viewers.check_form(viewer, form.text("proof"))
        except Forbidden as error:
            if as_json or kind not in ("find", "live", "playground", "what-if"):
                raise
            resp.status = falcon.HTTP_403
            self._show(req, resp, page, viewer, Form(form.portable() or {}), str(error))
            return
        if kind == "find" and not id:
            self._find(req, resp, where, form, viewer, as_json=as_json)
        elif kind == "visitors" and id and form.text("delete") == "yes":
            self._service.delete(where, id)
            details = {"profile": id[:12], "name": viewer.name}
            _log.info("%(name)s deleted the visitor %(profile)s... in the inspector", details)
            _json(resp, {}) if as_json else _see(req, resp, "find")
        elif kind == "live" and not id:
            document = views.live(self._service, where, *map(form.text, ("type", "text", "visitor")))
            values = {"document": document, "form": form}
            _json(resp, document) if as_json else self._render(resp, req, "live", values, viewer)
        elif kind == "playground" and not id:
            self._play(req, resp, where, form, viewer, as_json=as_json)
        elif kind == "what-if" and not id:
            self._hand_in(req, resp, where, form, viewer, as_json=as_json)
        else:
            raise InvalidData("this page does not accept this form")

    def _find(
        self, req: Request, resp: Response, where: Environment, form: Form, viewer: Viewer, *, as_json: bool
    ) -> None:
        text, hits, notice = form.text("name"), None, ""
        try:
            if "=" not in text:
                profile = self._service.record(where, text)["profile"]["id"]
                page = f"visitors/{quote(profile, safe='')}"
                _json(resp, {"profileId": profile}) if as_json else _see(req, resp, page)
                return
            hits = _search(self._service, where, text, viewer)
        except ProfileNotFound as error:
            beginning = _search(self._service, where, text, viewer) if len(text) >= _SHORTEST_BEGINNING else {}
            if beginning.get("visitors"):
                hits = beginning
            elif as_json:
                raise
            else:
                notice, resp.status = str(error), falcon.HTTP_404
        if as_json:
            _json(resp, hits or {})
            return
        values = {"document": views.content(self._service, where), "form": form, "hits": hits, "notice": notice}
        self._render(resp, req, "find", values, viewer)

    def _play(
        self, req: Request, resp: Response, where: Environment, form: Form, viewer: Viewer, *, as_json: bool
    ) -> None:
        content = views.content(self._service, where)
        values: dict[str, Any] = {**_EMPTY_PLAY, "document": content, "form": form, "choices": choices(form, content)}
        try:
            overrides, events = overrides_of(form), events_of(form)
            self._service.previews.check(where, overrides)
            if events:
                self._edge.schemas.check("profile-request", {"events": events})
            terms, visitor = Terms(self._edge.access.guarded), form.text("visitor")
            values["sides"] = views.playground(self._service, where, visitor, events, overrides, terms, device_of(form))
            values["compared"] = views.comparison(values["sides"])
            if (url := form.text("url")) and self._edge.access.tokens:
                if urlsplit(url).scheme not in ("http", "https"):
                    raise InvalidData("the address of the page must begin with http:// or https://")
                values["link"] = signed_link(self._edge.access.tokens, where, url, overrides, _LINK_LIFE)
        except (InvalidData, ValueError) as error:
            if as_json:
                raise InvalidData(str(error)) from None
            values["wrong"], resp.status = str(error), falcon.HTTP_400
        if as_json:
            sides = [{"title": title, **side} for title, side in values["sides"]]
            _json(resp, {"sides": sides, "link": values["link"]})
            return
        self._render(resp, req, "playground", values, viewer)

    def _hand_in(
        self, req: Request, resp: Response, where: Environment, form: Form, viewer: Viewer, *, as_json: bool
    ) -> None:
        """Keep a draft for the process that counts, which also finds the errors that take too long for a request."""
        data_dir, settings = self._edge.data_dir, self._settings
        if form.text("discard") == "yes":
            drafts.discard(data_dir, where)
            _json(resp, views.what_if(data_dir, where)) if as_json else _see(req, resp, "what-if")
            return
        name, raw = form.file or ("pasted", form.text("draft").encode())
        draft = drafts.Draft(raw, name[:_LONGEST_NAME], self._service.clock(), viewer.name)
        try:
            read_json(raw)
            draft.check(settings.content_locale)
        except InvalidData as error:
            if as_json:
                raise
            resp.status = falcon.HTTP_400
            names = views.names(self._service, where)
            values = {"document": views.what_if(data_dir, where), "form": form, "wrong": str(error), "names": names}
            self._render(resp, req, "what_if", values, viewer)
            return
        try:
            drafts.hand_in(data_dir, where, draft)
        except OSError as error:
            raise StoreUnavailable(f"the draft cannot be kept: {error.strerror}") from error
        _log.info("%(name)s uploaded a draft in the inspector", {"name": viewer.name})
        _json(resp, views.what_if(data_dir, where)) if as_json else _see(req, resp, "what-if")

    def _where(self, req: Request) -> Environment:
        text = req.get_param("in")
        try:
            where = Environment.parse(text) if text else self._default or Environment("default", "main")
        except ValueError:
            raise InvalidData("query.in: expected ORGANIZATION/ENVIRONMENT, such as acme/main") from None
        return self._edge.environment(*where)

    def _render(self, resp: Response, req: Request, name: str, values: dict[str, Any], viewer: Viewer | None) -> None:
        place = req.get_param("in") or ""
        query = f"?in={quote(place, safe='/')}" if place else ""
        form = values.get("form")
        whole = {
            "base": f"{req.root_path}{PREFIX}",
            "query": query,
            "whole": req.has_param("all") or bool(form and form.text("all")),
            "all_link": f"{query}&all" if query else "?all",
            "environment": place or str(self._default or "default/main"),
            "proof": self._viewers.proof(viewer) if viewer else "",
            "signed_in": bool(viewer and viewer.signed_in),
            "can_link": self._edge.access.tokens is not None,
            "data_dir": str(self._edge.data_dir),
            "counts": self._settings.results_every > 0,
            "shared": self._settings.store is not None,
            "longest": self._edge.max_body_bytes,
            "now": self._service.clock(),
            "here": name,
            **values,
        }
        self._pages.render(resp, name, whole)


def _see(req: Request, resp: Response, page: str) -> None:
    # Redirect only to pages of this inspector: we add everything before the page.
    resp.status = falcon.HTTP_303
    place = req.get_param("in")
    query = f"?in={quote(place, safe='/')}" if place else ""
    resp.set_header("Location", f"{req.root_path}{PREFIX}/{quote(page.lstrip('/'), safe='/%')}{query}")


def _search(service: ExperienceService, where: Environment, text: str, viewer: Viewer) -> dict[str, Any]:
    hits = views.search(service, where, text)
    details = {"number": len(hits["visitors"]), "name": viewer.name}
    _log.info("the inspector listed %(number)s visitors of a search to %(name)s", details)
    return hits


def _json(resp: Response, document: Mapping[str, Any]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps({"data": document, "error": None, "message": "ok"}, default=str)
    resp.set_header("Referrer-Policy", "no-referrer")
    resp.set_header("Cross-Origin-Resource-Policy", "same-origin")
    resp.delete_header("Access-Control-Allow-Origin")
