"""The API as everybody runs it, with the time that it really is."""

from __future__ import annotations

from wsgiref.types import WSGIApplication

import pytest

from ninetailed_wsgi import create_app


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> WSGIApplication:
    return create_app(data_dir=str(tmp_path_factory.mktemp("data")), store_shards=2, access="open")
