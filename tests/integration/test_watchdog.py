from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.trainers import watchdog


class Server:
    """Answers /health with what it is told to."""

    def __init__(self):
        self.status = 200
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(owner.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    one = Server()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(watchdog.ray, "get", lambda *_, **__: [])


@pytest.mark.parametrize("harm", [lambda server: setattr(server, "status", 503), lambda server: server.stop()])
def test_a_server_that_is_ill_or_gone_is_named_once(server, harm):
    died = threading.Event()
    with watchdog.Watchdog([server.address], [], died.set) as dog:
        assert not died.wait(0.3)
        dog.require_alive()
        harm(server)
        assert died.wait(10)
        with pytest.raises(IntegrationError, match=f"the rollout server at {server.address} died"):
            dog.require_alive()


def test_a_proxy_has_no_say(server, monkeypatch):
    # Nobody listens there.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert watchdog.Watchdog([server.address], [], lambda: None).find_dead() is None


def test_what_dies_after_the_block_is_nobodys_business(server):
    died = threading.Event()
    with watchdog.Watchdog([server.address], [], died.set) as dog:
        pass
    server.stop()
    assert not died.wait(0.3)
    assert dog.cause is None
