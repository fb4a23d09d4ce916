"""The routes of the inspector: each page, its JSON twin, and the forms (spec section 14)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import falcon
import orjson
from falcon import Request, Response

from ninetailed_wsgi.api.body import read_body
from ninetailed_wsgi.api.inspector import views
from ninetailed_wsgi.api.inspector.pages import Pages
from ninetailed_wsgi.api.inspector.viewers import Viewer, Viewers
from ninetailed_wsgi.api.resources import Edge
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.errors import Forbidden, InvalidData, NinetailedError, RouteNotFound, Unauthorized
from ninetailed_wsgi.service.preview_links import signed_link
from ninetailed_wsgi.settings import Settings

PREFIX = "/inspector"
_LONGEST_FORM = 65_536
_LINK_LIFE = 24 * 60 * 60
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
        self._data_dir = settings.data_dir
        named = settings.environments
        self._default = Environment.parse(named[0]) if named else None
        self._viewers = Viewers(edge, settings.inspector if callable(settings.inspector) else None)
        self._pages = Pages()

    def on_get(self, req: Request, resp: Response, page: str = "") -> None:
        if page in ("", "/"):
            raise falcon.HTTPSeeOther(f"{req.root_path}{PREFIX}/find", headers={"Cache-Control": "no-store"})
        self._answer(req, resp, page, self._shown)

    def on_post(self, req: Request, resp: Response, page: str = "") -> None:
        self._answer(req, resp, page, self._sent)

    def _answer(
        self, req: Request, resp: Response, page: str, work: Callable[[Request, Response, str, Viewer], None]
    ) -> None:
        """Do the work of a page; what goes wrong is a page too, for a person, and the API's envelope for a program."""
        as_json = page.endswith(".json")
        try:
            viewer = self._viewer(req, resp, page)
            if viewer is not None:
                work(req, resp, page, viewer)
        except Unauthorized:
            if as_json or req.env.get("HTTP_AUTHORIZATION"):
                raise
            resp.status = falcon.HTTP_401
            self._render(resp, req, "sign_in", {"wrong": "", "next": page}, None)
        except NinetailedError as error:
            if as_json:
                raise
            resp.status = falcon.code_to_http_status(error.status)
            self._render(resp, req, "problem", {"message": str(error)}, None)

    def _viewer(self, req: Request, resp: Response, page: str) -> Viewer | None:
        """Return who looks; None where a sign-in or sign-out was answered."""
        if page == "sign-out" and req.method == "POST":
            viewer = self._viewers.of(req)
            self._viewers.check_form(viewer, _form(req, self._edge)[0].get("proof", ""))
            self._viewers.sign_out(req, resp)
            _see(req, resp, "find")
            return None
        if page == "sign-in" and req.method == "POST":
            form, _ = _form(req, self._edge)
            try:
                self._viewers.sign_in(req, resp, form.get("key", "").strip())
            except Forbidden as error:
                resp.status = falcon.HTTP_403
                self._render(resp, req, "sign_in", {"wrong": str(error), "next": form.get("next", "")}, None)
                return None
            _see(req, resp, form.get("next") or "find")
            return None
        return self._viewers.of(req)

    def _shown(self, req: Request, resp: Response, page: str, viewer: Viewer) -> None:
        name, as_json = page.removesuffix(".json"), page.endswith(".json")
        where = self._where(req)
        kind, _, id = name.partition("/")
        document, template = self._document(kind, id, where, viewer)
        if as_json:
            _json(resp, document)
            return
        more: dict[str, Any] = {}
        if template in ("find", "playground"):
            more = {"form": {}, "every": {}, "sides": [], "link": "", "wrong": "", "hits": None}
            more["visitor"] = req.get_param("visitor") or ""
        self._render(resp, req, template, {"document": document, **more}, viewer)

    def _document(self, kind: str, id: str, where: Environment, viewer: Viewer) -> tuple[dict[str, Any], str]:
        if kind in ("find", "playground") and not id:
            return views.content(self._service, where), kind
        if kind == "visitors" and id:
            document = views.visitor(self._service, where, id)
            told = {"profile": document["profile"]["id"][:12], "name": viewer.name}
            _log.info("the inspector showed the visitor %(profile)s... to %(name)s", told)
            return document, "visitor"
        if kind == "audiences" and id:
            return views.audience(self._service, where, id, self._data_dir), "audience"
        if kind == "experiences" and id:
            return views.experience(self._service, where, id, self._data_dir), "experience"
        if kind == "what-if" and not id:
            return views.what_if(self._data_dir, where), "what_if"
        if kind == "state" and not id:
            return views.state(self._service, where, self._edge.access), "state"
        raise RouteNotFound("the inspector has no such page")

    def _sent(self, req: Request, resp: Response, page: str, viewer: Viewer) -> None:
        form, every = _form(req, self._edge)
        self._viewers.check_form(viewer, form.get("proof", ""))
        where = self._where(req)
        kind, _, id = page.removesuffix(".json").partition("/")
        if kind == "find":
            if "=" in (text := form.get("name", "")):
                hits = views.search(self._service, where, text)
                if page.endswith(".json"):
                    _json(resp, hits)
                    return
                values = {"document": views.content(self._service, where), "form": form, "hits": hits}
                self._render(resp, req, "find", values, viewer)
                return
            profile = self._service.record(where, text)["profile"]["id"]
            if page.endswith(".json"):
                _json(resp, {"profileId": profile})
            else:
                _see(req, resp, f"visitors/{quote(profile, safe='')}")
        elif kind == "visitors" and id and form.get("delete") == "yes":
            self._service.delete(where, id)
            told = {"profile": id[:12], "name": viewer.name}
            _log.info("%(name)s deleted the visitor %(profile)s... in the inspector", told)
            _see(req, resp, "find")
        elif kind == "playground":
            self._play(req, resp, where, form, every, viewer, as_json=page.endswith(".json"))
        else:
            raise InvalidData("this page takes no such form")

    def _play(
        self,
        req: Request,
        resp: Response,
        where: Environment,
        form: Mapping[str, str],
        every: Mapping[str, str],
        viewer: Viewer,
        *,
        as_json: bool,
    ) -> None:
        values: dict[str, Any] = {"document": views.content(self._service, where), "form": form, "every": every}
        values |= {"sides": [], "link": "", "wrong": "", "visitor": form.get("visitor", "")}
        try:
            overrides = _overrides(form, every)
            self._service.previews.check(where, overrides)
            sides = views.playground(self._service, where, form.get("visitor", ""), form.get("path", ""), overrides)
            values["sides"] = sides
            if (url := form.get("url", "")) and self._edge.access.tokens:
                if urlsplit(url).scheme not in ("http", "https"):
                    raise InvalidData("the address of the page must begin with http:// or https://")
                values["link"] = signed_link(self._edge.access.tokens, where, url, overrides, _LINK_LIFE)
        except (InvalidData, ValueError) as error:
            if as_json:
                raise InvalidData(str(error)) from None
            values["wrong"], resp.status = str(error), falcon.HTTP_400
        if as_json:
            _json(resp, {"sides": [{"title": title, **side} for title, side in sides], "link": values["link"]})
            return
        self._render(resp, req, "playground", values, viewer)

    def _where(self, req: Request) -> Environment:
        asked = req.get_param("in")
        try:
            where = Environment.parse(asked) if asked else self._default or Environment("default", "main")
        except ValueError:
            raise InvalidData("query.in: expected an organization, a slash, an environment") from None
        return self._edge.environment(*where)

    def _render(self, resp: Response, req: Request, name: str, values: dict[str, Any], viewer: Viewer | None) -> None:
        asked = req.get_param("in") or ""
        whole = {
            "base": f"{req.root_path}{PREFIX}",
            "query": f"?in={quote(asked, safe='/')}" if asked else "",
            "environment": asked or str(self._default or "default/main"),
            "proof": self._viewers.proof(viewer) if viewer else "",
            "signed_in": bool(viewer and viewer.signed_in),
            "can_link": self._edge.access.tokens is not None,
            "here": name,
            **values,
        }
        self._pages.render(resp, name, whole)


def _overrides(form: Mapping[str, str], every: Mapping[str, str]) -> Overrides:
    traits: Any = {}
    if text := form.get("traits", "").strip():
        try:
            traits = orjson.loads(text)
        except orjson.JSONDecodeError:
            traits = None
        if not isinstance(traits, dict):
            raise InvalidData('traits: expected a JSON object such as {"plan": "pro"}')
    audiences = {name[9:]: value == "on" for name, value in every.items() if name.startswith("audience:") and value}
    indexes = {name[11:]: value for name, value in every.items() if name.startswith("experience:") and value}
    if wrong := [value for value in indexes.values() if not value.isascii() or not value.isdecimal()]:
        raise InvalidData(f"experience: found {wrong[0][:20]!r}, expected the index of a variant")
    experiences = {id: int(index[:9]) for id, index in indexes.items()}
    return Overrides.of(
        {"audiences": audiences, "experiences": experiences, "traits": traits, "at": form.get("at", "").strip()}
    )


def _form(req: Request, edge: Edge) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields of a form; twice, as those with a colon are named by what authors wrote."""
    raw = read_body(req.env, req.content_length, min(_LONGEST_FORM, edge.max_body_bytes))
    try:
        fields = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=2000)
    except ValueError:
        raise InvalidData("body: expected the fields of a form") from None
    first = {name: values[0] for name, values in fields.items()}
    return {name: value for name, value in first.items() if ":" not in name}, first


def _see(req: Request, resp: Response, page: str) -> None:
    # Only pages of this inspector: what stands before it is ours.
    resp.status = falcon.HTTP_303
    asked = req.get_param("in")
    query = f"?in={quote(asked, safe='/')}" if asked else ""
    resp.set_header("Location", f"{req.root_path}{PREFIX}/{quote(page.lstrip('/'), safe='/%')}{query}")


def _json(resp: Response, document: Mapping[str, Any]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps({"data": document, "error": None, "message": "ok"})
    resp.set_header("Referrer-Policy", "no-referrer")
    resp.set_header("Cross-Origin-Resource-Policy", "same-origin")
    resp.delete_header("Access-Control-Allow-Origin")
