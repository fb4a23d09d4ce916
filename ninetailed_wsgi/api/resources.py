"""One class per route: reads the request, asks the service, writes the envelope."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import falcon
import orjson
from falcon import Request, Response

from ninetailed_wsgi.api.body import read_body
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.enrichment.client_ip import ClientAddress
from ninetailed_wsgi.errors import InvalidData, RouteNotFound
from ninetailed_wsgi.operations.metrics import Metrics
from ninetailed_wsgi.service.service import ExperienceService

_EXPLAIN = "/explain"


@dataclass(frozen=True, slots=True)
class Edge:
    """What the routes share.

    Attributes:
        max_body_bytes: a longer body is refused.
        explain: whether ``/explain`` is served, which shows rules.
    """

    service: ExperienceService
    schemas: Schemas
    address: ClientAddress
    max_body_bytes: int
    explain: bool


class _Resource:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._service = edge.service

    def _body(self, req: Request, schema: str) -> Any:
        body = read_json(read_body(req.env, req.content_length, self._edge.max_body_bytes))
        self._edge.schemas.check(schema, body)
        return body

    def _upsert(self, req: Request, resp: Response, where: Environment, name: str | None) -> None:
        kind = req.get_param("type")
        if kind not in (None, "preflight"):
            raise InvalidData(f'query.type: found "{kind[:60]}", expected "preflight" or no type at all')
        body = self._body(req, "profile-request")
        address = self._edge.address.of(req.env)
        locale = req.get_param("locale") or "en"
        data = self._service.upsert(where, name, body, preflight=kind is not None, address=address, locale=locale)
        _answer(resp, data)


class Profiles(_Resource):
    """``/profiles``: create a profile."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        self._upsert(req, resp, self._service.environment(organization, environment), None)


class Profile(_Resource):
    """``/profiles/{idOrAlias}``: update, get, delete a profile; ``/explain`` behind it says why, where that is on."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str, name: str) -> None:
        where = self._service.environment(organization, environment)
        self._upsert(req, resp, where, self._changeable(name))

    def on_get(self, req: Request, resp: Response, organization: str, environment: str, name: str) -> None:
        where = self._service.environment(organization, environment)
        if self._edge.explain and name.endswith(_EXPLAIN):
            _answer(resp, self._service.explain(where, name.removesuffix(_EXPLAIN)))
        else:
            _answer(resp, self._service.get(where, _given(name)))

    def on_delete(self, req: Request, resp: Response, organization: str, environment: str, name: str) -> None:
        where = self._service.environment(organization, environment)
        self._service.delete(where, self._changeable(name))
        _answer(resp, {})

    def _changeable(self, name: str) -> str:
        if self._edge.explain and name.endswith(_EXPLAIN):
            raise falcon.HTTPMethodNotAllowed(["GET", "OPTIONS"])
        return _given(name)


class Batch(_Resource):
    """``/events``: apply a batch of events to many profiles."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        where, body = self._batch(req, organization, environment)
        _answer(resp, {"profiles": self._service.upsert_many(where, body)})

    def _batch(self, req: Request, organization: str, environment: str) -> tuple[Environment, dict[str, Any]]:
        where = self._service.environment(organization, environment)
        if kind := req.get_param("type"):
            # A sender that asks for a preflight must not find its events stored.
            raise InvalidData(f'query.type: found "{kind[:60]}", expected no type: a batch is always stored')
        return where, self._body(req, "batch-request")


class Import(Batch):
    """``/import/events``: accept the same, to be applied after the answer."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        self._service.import_many(*self._batch(req, organization, environment))
        _answer(resp, {})


class Insights(_Resource):
    """Insights ``/events``: note what visitors saw and clicked; 204 without a body, whatever single events say."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self._ingestion: Any = None

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        where = self._service.environment(organization, environment)
        body = self._body(req, "insights-request")
        if self._ingestion is None:
            # Here, as a site whose visitors report nothing need not load it.
            from ninetailed_wsgi.insights.ingestion import Ingestion

            self._ingestion = Ingestion(self._service, partial(self._edge.schemas.is_valid, "insights-event"))
        self._ingestion.ingest(where, body)
        resp.status = falcon.HTTP_204


class Scrape:
    """``/metrics``: what Prometheus asks for; no page of another site may read it."""

    def __init__(self, service: ExperienceService, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics

    def on_get(self, req: Request, resp: Response) -> None:
        resp.delete_header("Access-Control-Allow-Origin")
        resp.content_type, resp.data = self._metrics.exposition(self._service.state())


class Live:
    """``/health/live``: this process answers."""

    def on_get(self, req: Request, resp: Response) -> None:
        _answer(resp, {})

    on_head = on_get


class Ready:
    """``/health/ready``: requests can be served now; 503 with the reason otherwise."""

    def __init__(self, service: ExperienceService) -> None:
        self._service = service

    def on_get(self, req: Request, resp: Response) -> None:
        self._service.check()
        _answer(resp, {})

    on_head = on_get


class Document:
    """``/openapi.json``: a document that does not change."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._text = orjson.dumps(document, option=orjson.OPT_INDENT_2)

    def on_get(self, req: Request, resp: Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._text


def _given(name: str) -> str:
    """Return the name of a profile; callers who have none yet and leave it out must not all share one profile."""
    if not name:
        raise RouteNotFound("no route has this path: the id or alias after /profiles/ is missing")
    return name


def _answer(resp: Response, data: dict[str, Any]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps({"data": data, "error": None, "message": "ok"})
