from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.safety import watchdog


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


def test_a_dead_actor_is_found_behind_one_out_of_reach(monkeypatch):
    """Out of reach for a moment is not dead, but hides nobody who is."""
    errors = {"away": ActorUnavailableError("no answer", None), "dead": ActorDiedError(), "well": None}

    def get(answer):
        if errors[answer]:
            raise errors[answer]

    monkeypatch.setattr(watchdog.ray, "get", get)
    monkeypatch.setattr(watchdog.ray, "wait", lambda asked, **_: (asked, []))

    def actors(*names):
        return [SimpleNamespace(__ray_ready__=SimpleNamespace(remote=lambda name=name: name)) for name in names]

    assert watchdog.Watchdog([], actors("well", "away"), lambda: None).find_dead() is None
    found = watchdog.Watchdog([], actors("well", "away", "dead"), lambda: None).find_dead()
    assert isinstance(found, IntegrationError)
    # Where a worker's partner died, one that cannot be reached is on the node that is gone.
    assert watchdog.first_dead(actors("well", "away")) is not None


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
