"""Which requests are answered, and the headers of every response."""

import socket
from dataclasses import replace

import pytest

from deconvnet.explorer import middleware
from deconvnet.explorer.middleware import is_loopback
from helpers.exploring import ORIGIN, Client, image_bytes, upload_image

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def refused(answer, status):
    assert (answer.status_code, list(answer.json())) == (status, ["error"]), answer.text
    assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize(
    "host",
    # The last ones are as through `ssh -L 9000:localhost:8000`.
    ["127.0.0.1:8000", "localhost:8000", "LocalHost:8000", "[::1]:8000", "localhost:9000", "127.0.0.1", "[::1]"],
)
def test_own_hosts(client, host):
    answer = client.get("/api/networks", headers={"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
    assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "127.0.0.1:800000",
        "127.0.0.1:8000:8000",
        "127.0.0.1.evil.example:8000",
        "localhost.:8000",
        "192.168.1.7:8000",
        "user@127.0.0.1:8000",
        "[::1]8000",
        "[::2]:8000",
        "::1:8000",
        "",
    ],
)
def test_foreign_hosts(client, host):
    for address in ("/", "/api/networks", "/atlas/little-atlas/index.html"):
        refused(client.get(address, headers={"Host": host}), 421)


def test_a_missing_host(running_server):
    assert running_server.raw("GET / HTTP/1.0\r\n\r\n")[0] == 421
    assert running_server.raw("GET / HTTP/1.1\r\n\r\n")[0] == 400  # by the protocol itself
    host_header = f"Host: 127.0.0.1:{running_server.port}\r\n"
    assert running_server.raw(f"GET / HTTP/1.1\r\n{host_header}{host_header}Connection: close\r\n\r\n")[0] == 400
    assert running_server.raw(f"GET / HTTP/1.0\r\n{host_header}\r\n")[0] == 200


def test_where_other_machines_may_ask(explorer):
    client = Client(explorer, "0.0.0.0")
    for host in ("192.168.1.7:8000", "[fe80::1]:8000", "0.0.0.0:8000", f"{socket.gethostname()}:8000", "localhost:8000"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    for host in ("evil.example:8000", "192.168.1.7.evil.example", "[192.168.1.7"):
        refused(client.get("/", headers={"Host": host}), 421)
    client.close()


@pytest.mark.parametrize(
    ("host", "only_here"), [("127.0.0.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback(host, only_here):
    assert is_loopback(host) is only_here


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1:8000", "http://127.0.0.1:8001", "http://localhost:8000", "null", ""]
)
def test_foreign_origins(client, image_path, origin):
    headers = {"Origin": origin}
    refused(client.get("/api/networks", headers=headers), 403)
    refused(upload_image(client, image_bytes(), **headers), 403)
    refused(client.post(image_path + "/occluded", json={}, headers=headers), 403)


def test_other_sites(client):
    for site in ("cross-site", "same-site", "nonsense"):
        headers = {"Sec-Fetch-Site": site}
        for address in ("/", "/api/networks", "/atlas/little-atlas/conv1/0000.webp", "/live/index.html"):
            refused(client.get(address, headers=headers), 403)
        refused(upload_image(client, image_bytes(), **headers), 403)
        link = headers | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert client.get("/", headers=link).status_code == 200
        assert client.get("/atlas/little-atlas/index.html", headers=link).status_code == 200
        refused(client.get("/api/networks", headers=link), 403)
        refused(upload_image(client, image_bytes(), **link), 403)
        refused(client.get("/", headers=link | {"Sec-Fetch-Dest": "iframe"}), 403)
    assert client.get("/", headers={"Sec-Fetch-Site": "none"}).status_code == 200


def test_methods(client):
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "NONSENSE"):
        refused(client.request(method, "/"), 405)
        refused(client.request(method, "/api/photos"), 405)
    refused(client.post("/", json={}), 405)


def test_heads(running_server):
    status, answer = running_server.raw(
        f"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:{running_server.port}\r\nConnection: close\r\n\r\n"
    )
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert (status, body) == (200, b"")
    assert b"content-length: " in headers
    assert b"server:" not in headers


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""])
def test_what_a_form_can_send_is_not_taken(client, image_path, kind):
    refused(client.post("/api/photos", content=image_bytes(), headers={"Content-Type": kind}), 415)
    body = b'{"left": 0, "top": 0, "width": 9, "height": 9}'
    refused(client.post(image_path + "/occluded", content=body, headers={"Content-Type": kind}), 415)
    right = {"Content-Type": "application/json; charset=utf-8"}
    assert client.post(image_path + "/occluded", content=body, headers=right).status_code == 200
    refused(client.post("/api/photos", content=image_bytes(), headers=right), 415)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (64 * 1024 + 1), 413),
        (b"[" * 60_000, (400, 422)),
        (b"not JSON", 422),
        (b"", 422),
        (b"\xff\xfe", (400, 422)),
        (b"null", 422),
        (b'{"left": NaN, "top": 0, "width": 9, "height": 9}', 422),
        (b'{"left": 1e999, "top": 0, "width": 9, "height": 9}', 422),
        (b'{"left": ' + b"9" * 5000 + b', "top": 0, "width": 9, "height": 9}', (400, 422)),
        (b'{"left": true, "top": 0, "width": 9, "height": 9}', 422),
        (b'{"left": 0, "top": 0, "width": 0, "height": 9}', 422),
    ],
)
def test_questions_that_are_none(client, image_path, body, status):
    answer = client.post(image_path + "/occluded", content=body, headers={"Content-Type": "application/json"})
    refused(answer, answer.status_code)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,))


def test_a_long_question_without_a_length(running_server):
    head = f"POST /api/photos/x/y/occluded HTTP/1.1\r\nHost: 127.0.0.1:{running_server.port}\r\n"
    head += "Content-Type: application/json\r\n"
    body = "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + ("1000\r\n" + "a" * 4096 + "\r\n") * 20
    assert running_server.raw(head + body)[0] == 413


def test_a_slow_question(running_server, monkeypatch):
    monkeypatch.setattr(middleware, "JSON_LIMIT", replace(middleware.JSON_LIMIT, seconds=0.2))
    head = f"POST /api/photos/x/y/occluded HTTP/1.1\r\nHost: 127.0.0.1:{running_server.port}\r\n"
    head += "Content-Type: application/json\r\n"
    status, answer = running_server.raw(head + "Content-Length: 100\r\n\r\n{")
    assert status == 408
    assert b"connection: close" in answer.lower()


def test_errors_have_the_headers_and_no_traceback(client, image_path, monkeypatch):
    def fail(*_):
        raise ValueError("a secret of /home/someone")

    monkeypatch.setattr("deconvnet.explorer.routes.feature_map_json", fail)
    answer = client.get(image_path + "/layers/conv1/0")
    refused(answer, 500)
    assert "secret" not in answer.text
    refused(client.get("/nothing"), 404)
    assert client.get("/", headers={"Origin": ORIGIN}).status_code == 200


def test_an_unexpected_error_is_logged(running_server, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("what went wrong")

    monkeypatch.setattr("deconvnet.explorer.app.json_response", fail)
    caplog.set_level("ERROR", "uvicorn.error")
    assert running_server.get("/api/networks")[0] == 500
    assert "what went wrong" in caplog.text or any(record.exc_info for record in caplog.records)
