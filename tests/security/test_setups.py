"""The setups of docs/security.md: each block of code and configuration runs as the page has it, but for its places."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import override_settings
from django.urls import include, path
from proxies import installed, running_nginx
from serving import ROOT, Answer, Server, page, serving

import ninetailed_wsgi.django.urls
from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.commands.main import main
from tests.mount.sites import set_django_up

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SECRET_FILE = "/etc/ninetailed/identity-secret"
PROFILES = "/v2/organizations/ORG/environments/main/profiles"
IMPORT = "/v2/organizations/ORG/environments/main/import/events"


def block(heading: str, language: str) -> str:
    """The one block of code in this language under a heading of the page."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", PAGE, re.M | re.S)
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)
    return str(code)


def identify(user_id: str, **traits: Any) -> dict[str, Any]:
    event = page(f"message of {user_id} {sorted(traits)}")
    del event["properties"]
    return {**event, "type": "identify", "userId": user_id, "traits": traits}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a site runs, with content and a secret."""
    monkeypatch.chdir(tmp_path)
    assert Ninetailed.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Ninetailed.__init__.__kwdefaults__, "time_budget_ms", 20_000)  # a busy machine takes longer
    (tmp_path / "content.json").write_text('{"audiences": [], "experiences": []}')
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    return tmp_path


def test_a_flask_site(folder: Path) -> None:
    names: dict[str, Any] = {"__name__": __name__}  # where Flask looks for a site's files
    exec(block("A Flask site", "python"), names)
    client = names["app"].test_client()

    def visitor() -> str:
        assert client.get("/").status_code == 200
        return str(client.get_cookie("ntaid").value)

    def known(id: str) -> int:
        return int(client.get(f"/ninetailed/v2/organizations/default/environments/main/profiles/{id}").status_code)

    planted = visitor()
    assert client.post("/login", data={"user": "anna"}).status_code == 200
    anna = visitor()
    assert anna != planted
    assert (known(anna), known("anna")) == (200, 404)
    client.post("/logout")
    assert visitor() != anna
    client.post("/login", data={"user": "anna"})
    assert visitor() == anna
    client.post("/delete-my-data")
    assert known(anna) == 404


def django_page(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string(block("A Django site behind nginx", "html"))
    return HttpResponse(template.render({"user": SimpleNamespace(id="anna")}, request))


urlpatterns = [path("", django_page), path("ninetailed/", include(ninetailed_wsgi.django.urls))]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def django_site(folder: Path) -> Iterator[int]:
    """The port of a Django site with the settings of the page."""
    set_django_up()
    settings: dict[str, Any] = {}
    exec(block("A Django site behind nginx", "python").replace(SECRET_FILE, str(folder / "secret")), settings)
    chosen = {name: settings[name] for name in ("MIDDLEWARE", "NINETAILED")}
    with override_settings(ROOT_URLCONF=__name__, **chosen):
        server = make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Quiet)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_django_site_behind_nginx(folder: Path, django_site: int) -> None:
    nginx = block("A Django site behind nginx", "nginx")
    with running_nginx(folder, f"server {{ listen 80; {nginx} }}", django_site) as proxy:
        shown = proxy.call("GET", "/")
        assert "no-store" in shown.headers["cache-control"]
        user, token = re.findall(r'"([^"]*)"', shown.body.decode())
        forged = {"X-Force-IP": "192.0.2.1", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
        body = {"events": [identify(user, nt_identity=token, plan="pro")]}
        api = "/ninetailed/v2/organizations/default/environments/main/profiles"
        own = {"Origin": proxy.url.replace(f":{proxy.port}", "")}  # nginx says $host, which has no port
        answer = proxy.call("POST", api, body, {**forged, **own})
        assert answer.status == 200, answer.body
        assert "x-ninetailed-identity" not in answer.headers
        assert answer.json()["data"]["profile"]["traits"] == {"plan": "pro"}
        assert proxy.call("POST", api, body, {"Origin": "https://evil.example"}).status == 403


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str, Path]]:
    """The server of the page, which listens on loopback here; a key; and where its files are."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "identity-secret").write_text("0123456789abcdef" * 4)
    command, keys = block("A separate front end with the browser SDK", "sh"), str(folder / "keys.json")
    words = shlex.split(command.replace("\\\n", " ").replace(SECRET_FILE, str(folder / "identity-secret")))
    assert words[:4] == ["ninetailed-wsgi", "serve", "--bind", "0.0.0.0:8000"]
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert main(["key", "new", "node", "--scope", "events,read", "--keys-file", keys]) == 0
    # What the address of the page means by itself.
    options = ["--access", "guarded", "--keys-file", keys, "--store-shards", "2", "--workers", "1"]
    with serving(folder, *words[4:], *options) as server:
        yield server, printed[0], folder


def send(server: Server, where: str, *events: Any, **headers: str) -> Answer:
    body = json.dumps({"events": list(events)}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.call("POST", where, body, {"Content-Type": "text/plain", **named})


def test_a_separate_front_end_with_the_browser_sdk(service: tuple[Server, str, Path]) -> None:
    server, key, folder = service
    names: dict[str, Any] = {}
    signing = block("A separate front end with the browser SDK", "python")
    exec(signing.replace(SECRET_FILE, str(folder / "identity-secret")), names)
    front_end = {"Origin": "https://www.example.com"}
    created = send(server, PROFILES, page("front-end"), **front_end)
    assert created.headers["access-control-allow-origin"] == "https://www.example.com"
    id = created.json()["data"]["profile"]["id"]
    login = identify("anna@example.com", nt_identity=names["identity_token"]("anna@example.com"))
    proven = send(server, f"{PROFILES}/{id}", login, **front_end)
    assert "x-ninetailed-identity" not in proven.headers
    found = server.call("GET", f"{PROFILES}/anna@example.com", headers={"Authorization": f"Bearer {key}"})
    assert found.json()["data"]["profile"]["id"] == proven.json()["data"]["profile"]["id"] != id
    assert send(server, PROFILES, page("evil"), Origin="https://evil.example").status == 403
    other = PROFILES.replace("/main/", "/other/")
    assert send(server, other, page("elsewhere"), **front_end).status == 404


def test_a_node_server(service: tuple[Server, str, Path]) -> None:
    if (node := installed("node")) is None:
        pytest.skip("node is not installed (Debian: apt install nodejs)")
    server, key, _ = service
    body = json.dumps({"events": [identify("ben@example.com", plan="pro")]})
    script = f"""
{block("A Node server", "js")}
fetchImpl("{server.url}{PROFILES}", {{method: "POST", body: {json.dumps(body)},
    headers: {{"Content-Type": "application/json", "X-Force-IP": "192.0.2.1"}}}})
  .then(answer => answer.json()).then(answer => console.log(answer.data.profile.id));
"""
    ran = subprocess.run(
        [node, "-e", script], env={"NINETAILED_KEY": key}, capture_output=True, text=True, timeout=120, check=True
    )
    name = urllib.parse.quote("ben@example.com")
    found = server.call("GET", f"{PROFILES}/{name}", headers={"Authorization": f"Bearer {key}"})
    assert found.json()["data"]["profile"]["id"] == ran.stdout.strip()


def test_rudderstack_through_a_proxy_that_adds_the_key(service: tuple[Server, str, Path], tmp_path: Path) -> None:
    server, key, _ = service
    nginx = block("RudderStack through a proxy that adds the key", "nginx")
    batch = {**page("rudder"), "anonymousId": "carla@example.com"}
    with running_nginx(tmp_path, f"server {{ listen 80; {nginx} }}", server.port, ("KEY", key)) as proxy:
        assert send(server, IMPORT, batch).status == 401
        assert send(proxy, IMPORT, batch).status == 200
        for where in (PROFILES, f"{PROFILES}/carla@example.com", IMPORT.replace("import/", "")):
            assert send(proxy, where, batch).status in (404, 405)
