"""The private parts of libraries that we use are as we use them; each failure says what of ours broke.

setup.cfg bounds the versions of these libraries. Raise a bound only after these tests pass with the new version.
"""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diskcache
import geoip2.database
import gunicorn.http.message
import gunicorn.http.unreader
import gunicorn.http.wsgi
import gunicorn.util
import pytest
from gunicorn import glogging
from gunicorn.workers import gthread

ROOT = Path(__file__).parent.parent
BOUNDED = ("diskcache", "geoip2", "gunicorn", "redis")
PRIVATE = {"_db_reader": "geoip2", "_exit": "the standard library", "_getframe": "the standard library"}
"""Attributes with an underscore that the package uses and does not define, and whose they are."""


def parameters(method: Any) -> list[str]:
    return list(inspect.signature(method).parameters)


@pytest.mark.parametrize("package", BOUNDED)
def test_a_library_whose_private_parts_are_used_has_an_upper_bound_that_the_installed_version_keeps(
    package: str,
) -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    requirements = re.findall(rf"^ *{package}(>=[^\n;]*)$", text, re.MULTILINE)
    assert requirements
    bounds = {requirement.partition(",<")[2] for requirement in requirements}
    assert len(bounds) == 1, f"{package}: each mention in setup.cfg has the same upper bound"
    (bound,) = bounds
    assert bound, f"{package} has no upper bound in setup.cfg"
    installed = [int(part) for part in version(package).split(".")[:3]]
    assert installed < [int(part) for part in bound.split(".")]


def test_every_private_attribute_of_a_library_is_known_here() -> None:
    defined: set[str] = set()
    used: set[str] = set()
    for file in (ROOT / "ninetailed_wsgi").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                defined.add(node.attr)
            elif isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
                used.add(node.attr)
    of_named_tuples = {"_replace", "_asdict", "_fields"}
    assert used - defined - of_named_tuples == PRIVATE.keys(), "give its library an upper bound, and a test here"


# geoip2: enrichment/maxmind.py


def test_geoip2_keeps_the_reader_of_records_where_ours_looks() -> None:
    with geoip2.database.Reader(ROOT / "fixtures" / "geo" / "demo.mmdb") as reader:
        assert isinstance(reader._db_reader.metadata().node_count, int), "enrichment/maxmind.py: no location"
        assert callable(reader._db_reader.get)


# gunicorn: server/worker.py and server/gunicorn_server.py


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("handle", ["self", "conn"]),
        ("enqueue_req", ["self", "conn"]),
        ("finish_request", ["self", "conn", "fs"]),
        ("handle_request", ["self", "req", "conn"]),
        ("murder_pending", ["self"]),
    ],
)
def test_gunicorns_worker_has_the_methods_that_ours_overrides(method: str, arguments: list[str]) -> None:
    found = parameters(getattr(gthread.ThreadWorker, method))
    assert found == arguments, "server/worker.py: slow clients would keep threads, or connections would be lost"


def test_gunicorns_worker_and_connections_have_what_ours_uses() -> None:
    source = inspect.getsource(gthread)
    for used in ("self.poller.register(", "self.poller.unregister(", "self.nr_conns -= 1", "self.tpool.submit("):
        assert used in source, "server/worker.py collects and ends connections with these"
    assert parameters(gthread.TConn.init) == ["self"], "server/worker.py makes the parser before a thread does"
    assert "and not conn.data_ready" in source, "server/worker.py says so, or a thread would wait for the first byte"
    assert parameters(gthread.TConn.close) == ["self", "graceful"]


def test_gunicorns_worker_answers_over_the_socket_that_a_connection_has_at_that_time() -> None:
    late = "server/refusing_worker.py: a 429 would be sent at once, or not at all"
    assert "wsgi.create(req, conn.sock," in inspect.getsource(gthread.ThreadWorker.handle_request), late
    source = inspect.getsource(gunicorn.http.wsgi.Response) + inspect.getsource(gunicorn.util)
    assert "util.write(self.sock, util.to_bytestring(header_str" in source, late
    assert "sock.sendall(data)" in source, late
    assert "sock.sendall(chunk)" in source, late
    assert parameters(gthread.ThreadWorker.wait_for_and_dispatch_events) == ["self", "timeout"], late


def test_gunicorns_worker_keeps_its_idle_connections_in_order_and_counts_all() -> None:
    full = "server/worker.py: silent connections would keep everybody else out"
    source = inspect.getsource(gthread.ThreadWorker)
    assert "self.keepalived_conns = deque()" in source, full
    assert "self.keepalived_conns.append(conn)" in source, full
    assert "can_accept = self.nr_conns < self.worker_connections" in source, full
    run = inspect.getsource(gthread.ThreadWorker.run)
    assert run.index("self.wait_for_and_dispatch_events(") < run.index("self.murder_pending()"), full


def test_gunicorns_parser_takes_back_what_was_read_before() -> None:
    reader = gunicorn.http.unreader.Unreader()
    reader.unread(b"GET ")
    assert reader.take_buffered() == b"GET ", "server/worker.py puts the whole request there"
    assert callable(gunicorn.http.message.Request.force_close), "server/worker.py: a long body would not be announced"


def test_gunicorns_ceiling_of_the_request_line_is_a_name_that_can_be_set() -> None:
    assert gunicorn.http.message.MAX_REQUEST_LINE == 8190, (
        "server/gunicorn_server.py raises it, as ids may be 10 kB each"
    )
    assert "MAX_REQUEST_LINE" in inspect.getsource(gunicorn.http.message.Request), "and the request reads it"


def test_gunicorns_log_can_be_given_another_form() -> None:
    assert parameters(glogging.Logger.setup) == ["self", "cfg"]
    assert "self.error_log" in inspect.getsource(glogging.Logger), "server/worker.py: the log would name visitors"


# diskcache: store/disk/rows.py


def test_diskcache_makes_the_table_that_our_statements_read(tmp_path: Path) -> None:
    diskcache.Cache(str(tmp_path), eviction_policy="none").close()
    with sqlite3.connect(tmp_path / diskcache.core.DBNAME) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(Cache)")]
    connection.close()
    needed = {"key", "raw", "store_time", "access_time", "access_count", "mode", "value"}
    assert needed <= set(columns), "store/disk/rows.py: its statements name these columns"
    assert diskcache.core.DBNAME == "cache.db", "store/disk/folder.py: existing folders have this name"
    assert diskcache.core.MODE_RAW == 1, "store/disk/rows.py: rows that were written would be refused as pickles"


def test_diskcache_takes_its_connection_and_its_statements_from_what_we_override() -> None:
    assert isinstance(diskcache.Cache._con, property), "store/disk/rows.py: each thread would open its own connection"
    assert isinstance(diskcache.Cache._sql_retry, property), "store/disk/rows.py: triggers for counting would be made"
    assert "self._sql_retry" in inspect.getsource(diskcache.Cache.__init__)


def test_diskcaches_disk_stores_and_fetches_by_the_methods_that_refuse_pickles() -> None:
    assert parameters(diskcache.Disk.store) == ["self", "value", "read", "key"], "store/disk/rows.py: bytes only"
    assert parameters(diskcache.Disk.fetch) == ["self", "mode", "filename", "value", "read"], "no unpickling"


# redis: store/redis/connections.py


def test_redis_lends_a_connection_to_which_packed_commands_are_sent() -> None:
    redis = pytest.importorskip("redis")
    connection = redis.connection.AbstractConnection
    for method in ("send_packed_command", "pack_commands", "read_response", "disconnect"):
        assert callable(getattr(connection, method)), f"store/redis/connections.py: _Exchange calls {method}"
    pool = redis.ConnectionPool
    for method in ("get_connection", "release", "disconnect"):
        assert callable(getattr(pool, method)), f"store/redis/connections.py: _Exchange calls {method} of the pool"
    assert "inuse_connections" in parameters(pool.disconnect), "_Exchange closes those that nobody uses"
    required = [
        parameter.name
        for parameter in inspect.signature(pool.get_connection).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert required == ["self"] or required == ["self", "command_name"]


def test_redis_cluster_finds_the_server_of_a_key_and_can_look_again() -> None:
    cluster = pytest.importorskip("redis.cluster")
    for method in ("get_redis_connection", "get_primaries", "get_node_from_key"):
        assert callable(getattr(cluster.RedisCluster, method)), f"store/redis/connections.py calls {method}"
    assert callable(cluster.NodesManager.initialize), "store/redis/connections.py: refreshes after a failover"
