"""What the server lets in."""

from __future__ import annotations

import base64
import http.client
import os

import pytest

from tests.e2e.conftest import Server


def _handshake(server: Server, host: str, origin: str) -> int:
    """Asks for the page's WebSocket and returns the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    for name, value in {
        "Host": host,
        "Origin": origin,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_this_computer_may_open_the_websocket(server: Server, host: str) -> None:
    address = f"{host}:{server.port}"
    assert _handshake(server, address, f"http://{address}") == 101


def test_a_foreign_host_with_the_same_foreign_origin_is_refused(server: Server) -> None:
    """Otherwise a site could rebind its name to 127.0.0.1 and read the person's photos."""
    address = f"evil.example:{server.port}"
    assert _handshake(server, address, f"http://{address}") == 403


def test_a_foreign_origin_is_refused(server: Server) -> None:
    assert _handshake(server, f"127.0.0.1:{server.port}", "http://evil.example") == 403


def test_the_server_listens_on_the_loopback_address_only(server: Server) -> None:
    import psutil

    assert server.process is not None
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server.process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
