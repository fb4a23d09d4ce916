"""Opens the store and the import queue that the settings name: in the data folder, or on Redis."""

from __future__ import annotations

from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.disk.folder import refuse_filling, upgrade
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import KeptStore, Queue


def open_store(settings: Settings, *, filling: bool = False) -> tuple[KeptStore, Queue]:
    """Open the store and its import queue; raise SettingsError if they cannot be used.

    ``filling`` is for a migration: nobody else may open a store that is incomplete.
    """
    if settings.store is not None:
        return _on_redis(settings, settings.store, filling)
    if not filling:
        refuse_filling(settings.data_dir)
    store = DiskStore(
        settings.data_dir,
        shards=settings.store_shards,
        synchronous=settings.sqlite_synchronous,
        timeout=settings.store_timeout,
        history_events=settings.history_events,
        history_days=settings.history_days,
    )
    queue = ImportQueue(
        settings.data_dir,
        limit=settings.import_queue,
        most_bytes=settings.import_queue_bytes,
        synchronous=settings.sqlite_synchronous,
        timeout=settings.store_timeout,
    )
    return store, queue


def upgrade_store(settings: Settings) -> bool:
    """Upgrade the store of the settings to the format of this software; return whether it had an older one.

    Raises:
        SettingsError: there is no store, or its format cannot be upgraded.
    """
    if settings.store is None:
        return upgrade(settings.data_dir)
    from ninetailed_wsgi.store.redis.server import RedisServer

    return RedisServer(settings.store, timeout=settings.store_timeout).marker.upgrade()


def _on_redis(settings: Settings, url: RedisUrl, filling: bool) -> tuple[KeptStore, Queue]:
    # Needs an extra, see setup.cfg.
    from ninetailed_wsgi.store.redis.queue import RedisQueue
    from ninetailed_wsgi.store.redis.server import RedisServer
    from ninetailed_wsgi.store.redis.store import RedisStore

    replicas = settings.store_wait_replicas
    server = RedisServer(url, timeout=settings.store_timeout, wait_replicas=replicas, filling=filling)
    server.start()
    store = RedisStore(
        server,
        timeout=settings.store_timeout,
        history_events=settings.history_events,
        history_days=settings.history_days,
    )
    lease = max(10.0, 2 * settings.store_timeout)
    queue = RedisQueue(
        server,
        limit=settings.import_queue,
        most_bytes=settings.import_queue_bytes,
        timeout=settings.store_timeout,
        lease=lease,
    )
    return store, queue
