"""One class per route: reads the request, asks the service, writes the envelope."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import falcon
import orjson
from falcon import Request, Response

from ninetailed_wsgi.api.body import read_body
from ninetailed_wsgi.api.callers import Callers
from ninetailed_wsgi.api.previews import KEY, content_of, overrides_of, without_foreign
from ninetailed_wsgi.api.spaces import SpaceNames
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.core.ids import has_form
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.enrichment.client_ip import ClientAddress
from ninetailed_wsgi.errors import InvalidData, ProfileNotFound, RouteNotFound, SettingsError, UnknownEnvironment
from ninetailed_wsgi.operations.metrics import Metrics
from ninetailed_wsgi.service.access import Access, Caller, Permission, check_name, check_names, is_short
from ninetailed_wsgi.service.service import ExperienceService

_EXPLAIN = "/explain"
_SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class Edge:
    """What the routes share.

    Attributes:
        access: who may do what.
        callers: finds out who asks.
        max_body_bytes: a longer body is refused.
        explain: whether ``/explain`` is served, which shows rules.
        spaces: how the space routes name spaces; None for the organization routes.
        data_dir: where the last results are.
    """

    service: ExperienceService
    schemas: Schemas
    address: ClientAddress
    max_body_bytes: int
    explain: bool
    access: Access
    callers: Callers
    data_dir: Path
    spaces: SpaceNames | None = None

    @property
    def entities(self) -> bool:
        """Whether answers may contain what only clients of the space routes accept (spec section 6)."""
        return self.spaces is not None

    def environment(self, organization: str, environment: str) -> Environment:
        """Return the environment of a path; UnknownEnvironment when it is not served here (spec section 16).

        On the space routes, ``organization`` is the space.
        """
        names = (organization, environment)
        if self.spaces is not None:
            names = self.spaces.environment(*names)
        try:
            where = self.service.environment(*names)
        except UnknownEnvironment:  # it names the environment that a space stands for
            raise _unknown(organization, environment) from None
        if self.access.guarded and not self.service.has_content(where):
            raise _unknown(organization, environment)
        return where

    def visitor_address(self, req: Request, caller: Caller) -> str | None:
        """Return the address of the visitor of a request, empty if it is unknown; None: a trusted caller names none."""
        if caller.scopes:
            return self.address.forced(req.env)
        return self.address.sender(req.env) or ""

    def allow(self, operation: str, req: Request) -> Caller:
        """Return the caller of an operation that names no profile; Unauthorized or Forbidden if they may not use it."""
        caller = self.callers.of(req.env)
        self.access.check(operation, caller)
        return caller


class _Resource:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._service = edge.service

    def _body(self, req: Request, schema: str, caller: Caller | None = None, *, walks: bool = True) -> Any:
        body = read_json(read_body(req.env, req.content_length, self._edge.max_body_bytes), walks=walks)
        if caller is not None:
            body = without_foreign(body, caller)
        self._edge.schemas.check(schema, body)
        return body

    def _events(self, body: dict[str, Any], caller: Caller, where: Environment, resp: Response) -> dict[str, Any]:
        """Return the body of a request, with the events as far as the caller may have them applied."""
        check_names(body["events"])
        verdict = self._edge.access.judge(body["events"], caller, where, self._service.certifies)
        if verdict.unverified:
            resp.set_header("X-Ninetailed-Identity", "unverified")
            if self._service.metrics:
                self._service.metrics.unverified(verdict.unverified)
        return body if verdict.events is body["events"] else {**body, "events": verdict.events}

    def _upsert(self, req: Request, resp: Response, where: Environment, name: str | None, caller: Caller) -> None:
        kind = req.get_param("type")
        if kind not in (None, "preflight"):
            raise InvalidData(f'query.type: found "{shorten(kind)}", expected "preflight" or no type at all')
        read = self._body(req, "profile-request", caller)
        overrides = overrides_of(req.env, read)
        if "preview" in read and overrides is not None:
            self._service.previews.check(where, overrides)
        if name is not None and self._fresh(where, name, caller, previews=overrides is not None):
            name = None
        body = self._events(read, caller, where, resp)
        address = self._edge.visitor_address(req, caller)
        terms = self._edge.access.terms(caller, address)
        if address is None:
            address = self._edge.address.sender(req.env)
        data = self._service.upsert(
            where,
            name,
            body,
            preflight=kind is not None,
            address=address,
            locale=req.get_param("locale") or "en",
            terms=terms,
            entities=self._edge.entities,
            overrides=overrides,
        )
        _answer(resp, self._edge.access.visible(data, caller))

    def _fresh(self, where: Environment, name: str, caller: Caller, *, previews: bool) -> bool:
        """Return whether an update becomes a create, because this caller may not name this profile."""
        if previews and caller.may("admin"):  # they may see why a profile gets what it gets
            return False
        return self._check("update", caller, where, name) is Permission.FRESH

    def _check(self, operation: str, caller: Caller, where: Environment, name: str) -> Permission:
        own = self._edge.access.guarded and self._service.certifies(where, name)
        return self._edge.access.check(operation, caller, own=own)


class ProfilesResource(_Resource):
    """``/profiles``: create a profile."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        caller = self._edge.allow("create", req)
        self._upsert(req, resp, self._edge.environment(organization, environment), None, caller)


class ProfileResource(_Resource):
    """``/profiles/{idOrAlias}``: update, get, delete a profile; ``/explain`` behind it says why, where that is on."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str, name: str) -> None:
        where, caller = self._edge.environment(organization, environment), self._edge.callers.of(req.env)
        self._upsert(req, resp, where, self._changeable(name), caller)

    def on_get(self, req: Request, resp: Response, organization: str, environment: str, name: str) -> None:
        if self._edge.explain and name.endswith(_EXPLAIN):
            self._edge.allow("explain", req)
            where = self._edge.environment(organization, environment)
            _answer(resp, self._service.explain(where, name.removesuffix(_EXPLAIN)))
            return
        where, caller = self._edge.environment(organization, environment), self._edge.callers.of(req.env)
        name = _parameter(name)
        if self._check("get", caller, where, name) is Permission.ABSENT:
            raise ProfileNotFound("no profile has this id")
        data = self._service.get(
            where,
            name,
            guarded=self._edge.access.guarded,
            address=self._edge.visitor_address(req, caller),
            entities=self._edge.entities,
            overrides=overrides_of(req.env),
        )
        _answer(resp, self._edge.access.visible(data, caller))

    def on_delete(self, req: Request, resp: Response, organization: str, environment: str, name: str) -> None:
        caller = self._edge.allow("delete", req)
        where = self._edge.environment(organization, environment)
        address = self._edge.visitor_address(req, caller)
        self._service.delete(where, self._changeable(name), guarded=self._edge.access.guarded, address=address)
        _answer(resp, {})

    def _changeable(self, name: str) -> str:
        if self._edge.explain and name.endswith(_EXPLAIN):
            raise falcon.HTTPMethodNotAllowed(["GET", "OPTIONS"])
        return _parameter(name)


class BatchResource(_Resource):
    """``/events``: apply a batch of events to many profiles."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        where, body = self._batch(req, resp, "batch", organization, environment)
        # A preview stores nothing.
        options = {"guarded": self._edge.access.guarded, "preflight": KEY in req.env}
        _answer(resp, {"profiles": self._service.upsert_many(where, body, **options)})

    def _batch(
        self, req: Request, resp: Response, operation: str, organization: str, environment: str
    ) -> tuple[Environment, dict[str, Any]]:
        caller = self._edge.allow(operation, req)
        where = self._edge.environment(organization, environment)
        if kind := req.get_param("type"):
            # A sender that asks for a preflight must not find its events stored.
            raise InvalidData(f'query.type: found "{shorten(kind)}", expected no type: a batch is always stored')
        return where, self._events(self._body(req, "batch-request"), caller, where, resp)


class ImportResource(BatchResource):
    """``/import/events``: accept the same batch, and apply it after the answer."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        where, body = self._batch(req, resp, "import", organization, environment)
        if KEY not in req.env:  # what happens in a preview is not stored
            self._service.import_many(where, body, guarded=self._edge.access.guarded)
        _answer(resp, {})


class InsightsResource(_Resource):
    """Insights ``/events``: note what visitors saw and clicked; 204 without a body, even if events are invalid."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self._ingestion: Any = None

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        caller = self._edge.allow("insights", req)
        where = self._edge.environment(organization, environment)
        body = self._body(req, "insights-request", walks=False)  # only an event's own members are read
        resp.status = falcon.HTTP_204
        if KEY in req.env:  # what is seen in a preview is not counted
            return
        guarded = self._edge.access.guarded and not caller.may("events")
        # Accept only ids that we issued: a visitor may know the user id of another, which is not secret.
        is_name = partial(self._service.certifies, where) if guarded else is_short
        body = [batch for batch in body if is_name(batch["profile"]["id"])]
        if self._ingestion is None:
            # Imported here, because a site whose visitors report nothing need not load it.
            from ninetailed_wsgi.insights.ingestion import Ingestion

            self._ingestion = Ingestion(self._service, partial(self._edge.schemas.is_valid, "insights-event"))
        self._ingestion.ingest(where, body, guarded=guarded, address=self._edge.visitor_address(req, caller))


class ResultsResource(_Resource):
    """``/experiences/{id}/results``: the last computed results of an experience, with their age in seconds."""

    def on_get(self, req: Request, resp: Response, organization: str, environment: str, experience: str) -> None:
        self._edge.allow("results", req)
        where = self._edge.environment(organization, environment)
        # Imported here, because most sites never ask.
        from ninetailed_wsgi.insights import latest

        last = latest.read(self._edge.data_dir, where)
        results = [each for each in last.results if each["experienceId"] == experience] if last else []
        if last is None or not results:
            raise RouteNotFound(
                "no results of this experience were computed yet: ninetailed-wsgi serve --results-every SECONDS "
                "computes those of each experience that is published and that a visitor saw"
            )
        age = max(0.0, self._service.now() - last.computed_at / 1000)
        _answer(resp, {"results": results, "ageSeconds": round(age, 3)})


class PreviewEntries(_Resource):
    """``/preview/entries``: the audiences and experiences that preview panels list, as the Delivery API has them."""

    def on_get(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        self._edge.allow("preview", req)
        where = self._edge.environment(organization, environment)
        _answer(resp, self._service.previews.entries(where, content_of(req)))


class Scrape:
    """``/metrics``: what Prometheus asks for; no page of another site may read it."""

    def __init__(self, edge: Edge, metrics: Metrics) -> None:
        self._edge = edge
        self._metrics = metrics

    def on_get(self, req: Request, resp: Response) -> None:
        self._edge.allow("metrics", req)
        resp.delete_header("Access-Control-Allow-Origin")
        resp.content_type, resp.data = self._metrics.exposition(self._edge.service.state())


class Refresh:
    """``/content/refresh``: look for changed content at once; for admins, and for a webhook that knows its secret.

    Args:
        edge: what the routes share.
        file: holds the secret; None: there is no webhook.

    Raises:
        SettingsError: the file cannot be read, or holds no secret.
    """

    def __init__(self, edge: Edge, file: Path | None) -> None:
        self._edge = edge
        self._secret = None if file is None else _webhook_secret(file)

    def on_post(self, req: Request, resp: Response) -> None:
        secret = req.get_header("X-Ninetailed-Webhook-Secret")
        if (
            self._secret is None
            or secret is None
            or not hmac.compare_digest(secret.encode("latin-1", "replace"), self._secret)
        ):
            self._edge.allow("refresh", req)
        self._edge.service.refresh_content()
        _answer(resp, {})


def _webhook_secret(file: Path) -> bytes:
    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        raise SettingsError([f"contentful_webhook_secret_file: {file} cannot be read: {error.strerror}"]) from error
    if len(secret) < _SHORTEST_SECRET or b"\n" in secret:
        expected = f"must hold one line of at least {_SHORTEST_SECRET} characters; `openssl rand -hex 32` makes one"
        raise SettingsError([f"contentful_webhook_secret_file: {file} {expected}"])
    return secret


class Liveness:
    """``/health/live``: this process answers."""

    def on_get(self, req: Request, resp: Response) -> None:
        _answer(resp, {})

    on_head = on_get


class Readiness:
    """``/health/ready``: requests can be served now; 503 with the reason otherwise."""

    def __init__(self, service: ExperienceService) -> None:
        self._service = service

    def on_get(self, req: Request, resp: Response) -> None:
        self._service.check()
        _answer(resp, {})

    on_head = on_get


class ApiDescription:
    """``/openapi.json``: a document that does not change, made by ``text``."""

    def __init__(self, edge: Edge, text: Callable[[], bytes]) -> None:
        self._edge, self._text = edge, text

    def on_get(self, req: Request, resp: Response) -> None:
        self._edge.allow("openapi", req)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._text()


def _unknown(organization: str, environment: str) -> UnknownEnvironment:
    """Return the error for a path of an environment that is not served; it repeats the path's names and no others."""
    return UnknownEnvironment(f"no environment {shorten(environment)} of {shorten(organization)} is served here")


def _parameter(name: str) -> str:
    """Return the name of a profile; refuse an empty one, as all callers without a name would share one profile.

    An issued id may have a slash at its end, which some clients and proxies add. Other names may really end with one.
    """
    if not name:
        raise RouteNotFound(
            "no route has this path: the id or alias after /profiles/ is missing; POST /profiles, without the slash, "
            "creates a profile"
        )
    if name[-1] == "/" and has_form(name[:-1]):
        return name[:-1]
    check_name("path", name)
    return name


def _answer(resp: Response, data: dict[str, Any]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps({"data": data, "error": None, "message": "ok"})
