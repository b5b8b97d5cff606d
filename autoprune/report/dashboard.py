"""``autoprune dashboard``: Optuna Dashboard on the store's database, in this process."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from autoprune.errors import InputError, StoreError
from autoprune.report.publish import artifact_store, publish_all

if TYPE_CHECKING:
    from autoprune.store.repository import Store


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Print nothing: one line per request would bury the address."""


def make_dashboard(store: Store, host: str = "127.0.0.1", port: int = 8080) -> WSGIServer:
    """Return a server on the database, listening but not yet serving.

    Args:
        store: The open database.
        host: Address to listen on.
        port: Port; 0 takes a free one (``server.server_port``).

    Raises:
        InputError: The address is in use or not this machine's.
    """
    from optuna_dashboard import wsgi

    files = None if store.address.read_only else artifact_store(store)
    app: Any = wsgi(store.storage, artifact_store=files)
    try:
        return make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise InputError(
            f"The dashboard cannot listen on {host}:{port}: {error.strerror}.", "Give another port with --port."
        ) from None


def serve(
    store: Store | str | os.PathLike[str] | None,
    host: str = "127.0.0.1",
    port: int = 8080,
    talk: Callable[[str], None] = lambda _text: None,
) -> None:
    """Renew the pages of all studies, then serve until Ctrl-C.

    Args:
        store: The open database, or its address.
        host: Address to listen on; the dashboard has no log-in, so anything but loopback is open to others.
        port: Port; 0 takes a free one.
        talk: Told the address and warnings, one line each.

    Raises:
        InputError: The address is in use.
        StoreError: The database cannot be opened.
    """
    from autoprune.store.repository import Store as OpenStore

    if not isinstance(store, OpenStore):
        with OpenStore.open(store) as opened:
            serve(opened, host, port, talk)
        return
    try:
        publish_all(store)
    except StoreError as error:
        talk(f"The pages could not be renewed: {error}")
    server = make_dashboard(store, host, port)
    if not is_loopback(host):
        talk("Everybody who reaches this address can change and delete studies: the dashboard has no log-in.")
    talk(f"Optuna Dashboard on {store.url_masked}: http://{host}:{server.server_port}/ (Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        talk("The dashboard has ended.")
    finally:
        server.server_close()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
