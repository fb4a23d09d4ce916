"""A site of each framework with the middleware around it, below no prefix and below an outer one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.site.visitor import KEY, Visitor
from ninetailed_wsgi.store import opening
from ninetailed_wsgi.store.disk.store import DiskStore
from tests.mount.browser import App, Browser
from tests.mount.sites import SITES, Reply, Respond, answering, bare_site, below

ROOT = Path(__file__).parent.parent.parent
SHOP = ROOT / "fixtures" / "spaces" / "shop.json"
GEO = ROOT / "fixtures" / "geo" / "demo.mmdb"
SECRET = "0123456789abcdef0123456789abcdef"
ENVIRONMENT = Environment("default", "main")
SITE_NAMES = [(name, prefix) for name in SITES for prefix in ("", "/outer")]


class WatchedStore(DiskStore):
    """The store of the middleware, counting what reaches it."""

    made: list[WatchedStore]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.writes = 0
        self.hook: Callable[[], object] = lambda: None
        self.made.append(self)

    def read(self, key: Any) -> Any:
        self.hook()
        return super().read(key)

    def update(self, keys: Any, fold: Any) -> dict[Any, Any]:
        self.hook()
        decisions = super().update(keys, fold)
        writes = [decision.write for decision in decisions.values() if decision is not None]
        # Not the pointers of aliases.
        self.writes += sum(write is not None and "id" in (write.document or {}) for write in writes)
        return decisions


@dataclass
class Mounted:
    """Sites with the middleware around them, each with data of its own in ``folder``.

    Attributes:
        make_site, serve: see ``SITES``.
        prefix: the outer prefix.
        stores: the stores that were opened so far.
    """

    folder: Path
    make_site: Callable[[], App]
    serve: Callable[[App], App]
    prefix: str
    stores: list[WatchedStore] = field(default_factory=list)
    latest: Ninetailed | None = None

    def profile(self, name: str) -> dict[str, Any]:
        """What is stored under an id or alias, as the API would answer it; ProfileNotFound where nothing is."""
        profile: dict[str, Any] = self.service.get(ENVIRONMENT, name)["profile"]
        return profile

    @property
    def service(self) -> ExperienceService:
        """The service behind the site that was made last, which starts now if nobody has asked the site yet."""
        assert self.latest is not None
        engine = self.latest._here().running()
        assert engine is not None
        return cast(ExperienceService, engine.service)

    @property
    def store(self) -> WatchedStore:
        assert len(self.stores) == 1
        return self.stores[0]

    def app(self, respond: Respond, **options: Any) -> Ninetailed:
        """The middleware around the site."""
        given = {"data_dir": self.folder / "data", "content": SHOP, "store_shards": 2}
        # Not 100 ms: other tests may keep this machine busy.
        site = answering(self.make_site(), respond)
        self.latest = Ninetailed(site, **{"time_budget_ms": 20_000, "access": "open", **given, **options})
        return self.latest

    def browser(self, respond: Respond, **options: Any) -> Browser:
        return self.visit(self.app(respond, **options))

    def visit(self, app: App) -> Browser:
        return Browser(below(self.prefix, self.serve(app)), self.prefix)

    def visited_by(self, use: Callable[[Visitor], object], **options: Any) -> Browser:
        """A site whose pages do something with the visitor and show what comes out."""
        return self.browser(lambda environ: Reply(str(use(environ[KEY])).encode()), **options)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[WatchedStore]]:
    stores: list[WatchedStore] = []
    monkeypatch.setattr(opening, "DiskStore", WatchedStore)
    monkeypatch.setattr(WatchedStore, "made", stores, raising=False)
    yield stores
    for store in stores:
        store.hook = lambda: None
        store.close()


@pytest.fixture(params=SITE_NAMES, ids=[name + prefix.replace("/", "-") for name, prefix in SITE_NAMES])
def mounted(request: pytest.FixtureRequest, tmp_path: Path, opened: list[WatchedStore]) -> Mounted:
    """A site of every framework, at the root and below an outer prefix."""
    name, prefix = request.param
    return Mounted(tmp_path, *SITES[name], prefix, opened)


@pytest.fixture
def bare(tmp_path: Path, opened: list[WatchedStore]) -> Mounted:
    """A plain WSGI site, for what no framework makes a difference to."""
    return Mounted(tmp_path, lambda: bare_site, SITES["wsgi"][1], "", opened)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The file of the secret that signs links to previews."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file
