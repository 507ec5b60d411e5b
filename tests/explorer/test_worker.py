"""The one thread, and many who ask at once."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from deconvnet.explorer import uploads
from deconvnet.explorer import worker as work
from deconvnet.explorer.occlusion_stream import Sweep
from deconvnet.explorer.responses import Busy, Gone
from deconvnet.explorer.uploads import Limit
from deconvnet.explorer.worker import Worker
from helpers.exploring import picture_bytes, read_answer


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def test_functions_run_one_at_a_time_in_the_order_in_which_they_come():
    worker, order, inside = Worker(), [], []

    def job(number):
        inside.append(number)
        time.sleep(0.005)
        assert inside == [number]
        inside.pop()
        order.append((number, threading.current_thread().name))
        return number

    async def ask():
        return await asyncio.gather(*(worker.run(lambda n=n: job(n)) for n in range(20)))

    assert asyncio.run(ask()) == list(range(20))
    assert [number for number, _ in order] == list(range(20))
    assert len({name for _, name in order}) == 1
    worker.close()


def test_only_so_many_wait_and_those_who_go_are_not_computed():
    worker, release, done = Worker(most_waiting=2), threading.Event(), []

    async def ask():
        running = asyncio.ensure_future(worker.run(lambda: release.wait(5)))
        await asyncio.sleep(0)
        goes = asyncio.ensure_future(worker.run(lambda: done.append("goes"), asyncio.sleep(0.05)))
        cancelled = asyncio.ensure_future(worker.run(lambda: done.append("cancelled")))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await worker.run(lambda: done.append("one too many"))
        with pytest.raises(Gone):
            await goes
        cancelled.cancel()
        await asyncio.sleep(0)
        is_pointwise = asyncio.ensure_future(worker.run(lambda: done.append("stays")))
        patient = asyncio.ensure_future(worker.run_patiently(lambda: done.append("patient")))
        await asyncio.sleep(0)
        release.set()
        assert await running is True
        await asyncio.gather(is_pointwise, patient)

    asyncio.run(ask())
    assert done == ["stays", "patient"]
    worker.close()


def test_a_job_whose_client_has_gone_ends_at_its_next_step():
    worker, steps, ended = Worker(), [], threading.Event()

    def job():
        try:
            while True:
                worker.check()
                steps.append(1)
                time.sleep(0.005)
        finally:
            ended.set()

    async def ask():
        with pytest.raises(Gone):
            await worker.run(job, asyncio.sleep(0.05))
        assert await worker.run(lambda: "the next") == "the next"

    asyncio.run(ask())
    assert ended.is_set()
    assert steps
    worker.close()


def test_closing_drops_what_waits():
    worker, started, release = Worker(), threading.Event(), threading.Event()

    async def ask():
        running = asyncio.ensure_future(worker.run(lambda: started.set() or release.wait(5)))
        waiting = asyncio.ensure_future(worker.run(lambda: 1))
        while not started.is_set():
            await asyncio.sleep(0)
        worker.close()
        with pytest.raises(Gone):
            await waiting
        with pytest.raises(Gone):
            await worker.run(lambda: 1)
        release.set()
        assert await running is True

    asyncio.run(ask())


def test_what_is_dropped_is_freed():
    class Large:
        pass

    worker, release, large = Worker(), threading.Event(), Large()
    there = weakref.ref(large)

    async def ask(large):
        running = asyncio.ensure_future(worker.run(lambda: release.wait(5)))
        await asyncio.sleep(0)
        dropped = asyncio.ensure_future(worker.run(lambda large=large: large))
        del large
        await asyncio.sleep(0)
        dropped.cancel()
        await asyncio.gather(dropped, return_exceptions=True)
        del dropped
        return running

    async def main():
        nonlocal large
        asked = ask(large)
        del large
        running = await asked
        await asyncio.sleep(0.05)
        gc.collect()
        assert there() is None  # although the thread has not come to it yet
        release.set()
        await running

    asyncio.run(main())
    worker.close()


def test_a_step_that_cannot_be_interrupted_does_not_hold_up_the_end():
    program = """if True:
        import asyncio, time
        from deconvnet.explorer.worker import Worker
        worker = Worker()
        async def ask():
            asyncio.ensure_future(worker.run(lambda: time.sleep(60)))
            await asyncio.sleep(0.1)
            worker.close()
            worker.join(0.1)
        asyncio.run(ask())
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=45)


def test_silent_connections_are_given_up(listening, monkeypatch):
    monkeypatch.setattr("deconvnet.explorer.app._SILENCE", 0.3)
    half = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{listening.port}\r\n"
    for begins in ("", half, f"{half}\r\n"):  # nothing, half a question, or one and then half of another
        with listening.connect() as connection:
            connection.sendall(begins.encode())
            if begins.endswith("\r\n\r\n"):
                assert connection.recv(12) == b"HTTP/1.1 200"
                connection.sendall(half.encode())
            connection.settimeout(8)
            start = time.monotonic()
            read_answer(connection)  # until the server closes
            assert time.monotonic() - start < 3
    assert listening.get("/")[0] == 200


@pytest.fixture
def client(listening):
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=listening.address, timeout=30, limits=limits) as client:
        yield client


@pytest.fixture
def photo(client):
    return f"/api/photos/{upload(client).json()['photo']}/little-atlas"


def upload(client, seed=0):
    content = picture_bytes(seed=seed, size=(300, 200))
    return client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream"})


class Gate:
    """In place of a function: counts its calls, and holds them up until it is opened."""

    def __init__(self, function):
        self.function, self.calls, self.opened = function, 0, threading.Event()

    def __call__(self, *arguments):
        self.calls += 1
        self.opened.wait(20)
        return self.function(*arguments)

    @contextmanager
    def threads(self):
        """Threads that ask; whatever happens, they are not left waiting at the gate."""
        with ThreadPoolExecutor(40) as pool:
            try:
                yield pool
            finally:
                self.opened.set()


@pytest.fixture
def gate(monkeypatch):
    from deconvnet.explorer import routes as photo_routes

    gate = Gate(photo_routes.projection_pixels)
    monkeypatch.setattr(photo_routes, "projection_pixels", gate)
    yield gate
    gate.opened.set()


def clear_or_busy(answer, good):
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {"error": "Too much is being asked at once: try again in a second."}
    else:
        assert answer.status_code == good, answer.text
    return answer.status_code


def test_fifty_uploads_at_once(client, monkeypatch):
    read_image, at_once, most = uploads.read_image, [], []

    def slowly(content):
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()
        return read_image(content)

    monkeypatch.setattr(uploads, "read_image", slowly)
    with ThreadPoolExecutor(50) as pool:
        found = [clear_or_busy(answer, 201) for answer in pool.map(lambda seed: upload(client, seed), range(50))]
    assert set(found) <= {201, 503}
    assert found.count(201) >= uploads.AT_ONCE + uploads.MOST_WAITING
    assert max(most) == 1
    assert upload(client).status_code == 201


def test_uploads_that_wait_are_not_read(listening, client, monkeypatch):
    read, reading = [], Limit.read

    async def count(limit, receive):
        read.append(1)
        return await reading(limit, receive)

    monkeypatch.setattr(Limit, "read", count)
    head = f"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1:{listening.port}\r\nContent-Type: application/octet-stream\r\n"
    slow = [listening.connect() for _ in range(uploads.AT_ONCE + uploads.MOST_WAITING)]
    for connection in slow:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\na".encode())
    until(lambda: len(read) == uploads.AT_ONCE)
    until(lambda: listening.explorer.uploads._waiting == uploads.MOST_WAITING)
    assert clear_or_busy(upload(client), 0) == 503
    assert len(read) == uploads.AT_ONCE
    for connection in slow:
        connection.close()
    until(lambda: listening.explorer.uploads._waiting == 0)
    until(lambda: upload(client).status_code == 201)


def test_fifty_projections_at_once(client, photo):
    address = photo + "/layers/conv2/1/projection.png"
    alone = client.get(address).content
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.get(address), range(50)))
    found = [clear_or_busy(answer, 200) for answer in answers]
    assert found.count(200) > 32
    assert all(answer.content == alone for answer in answers if answer.status_code == 200)
    assert client.get(address).content == alone


def test_a_full_queue_is_said(client, photo, gate, listening):
    address = photo + "/layers/conv2/1/projection.png"
    worker = listening.explorer.worker
    with gate.threads() as pool:
        waiting = [pool.submit(client.get, address) for _ in range(worker.most_waiting + 1)]
        until(lambda: worker.there == worker.most_waiting + 1)
        assert clear_or_busy(client.get(photo), 0) == 503
        assert client.get("/api/networks").status_code == 200  # what needs no network is answered all the same
        gate.opened.set()
        assert all(answer.result().status_code == 200 for answer in waiting)
    assert client.get(photo).status_code == 200


def test_one_that_goes_while_it_waits_is_not_computed(client, photo, gate, listening):
    address = photo + "/layers/conv2/1/projection.png"
    with gate.threads() as pool:
        first = pool.submit(client.get, address)
        until(lambda: gate.calls == 1)
        gone = [listening.connect() for _ in range(5)]
        for connection in gone:
            connection.sendall(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{listening.port}\r\n\r\n".encode())
        until(lambda: listening.explorer.worker.there == 6)
        for connection in gone:
            connection.close()
        until(lambda: listening.explorer.worker.there == 1)
        gate.opened.set()
        assert first.result().status_code == 200
    assert client.get(address).status_code == 200
    assert gate.calls == 2


def test_a_cancelled_occlusion_stops_computing(client, photo, listening, monkeypatch):
    step, steps = Sweep.step, []

    def slowly(sweep):
        steps.append(1)
        time.sleep(0.02)
        return step(sweep)

    monkeypatch.setattr(Sweep, "step", slowly)
    monkeypatch.setattr("deconvnet.explorer.occlusion_stream._MOST", 1)
    with client.stream("POST", photo + "/occlusion", json={"size": 5, "stride": 1}) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["positions"] == 784
        assert json.loads(next(lines))["done"] == 8
        assert listening.explorer.streams == 1
    until(lambda: listening.explorer.streams == 0)
    made = len(steps)
    time.sleep(0.3)
    assert len(steps) == made < 100


def test_streams_let_others_in_between_and_are_few(client, photo, listening, monkeypatch):
    step = Sweep.step

    def slowly(sweep):
        time.sleep(0.01)
        return step(sweep)

    monkeypatch.setattr(Sweep, "step", slowly)
    monkeypatch.setattr("deconvnet.explorer.occlusion_stream._MOST", 1)
    monkeypatch.setattr("deconvnet.explorer.routes.MOST_STREAMS", 2)
    streams = [client.stream("POST", photo + "/occlusion", json={"size": 5, "stride": 1}) for _ in range(2)]
    opened = [stream.__enter__() for stream in streams]
    assert [answer.status_code for answer in opened] == [200, 200]
    assert clear_or_busy(client.post(photo + "/occlusion", json={"size": 5}), 0) == 503
    start = time.monotonic()
    assert client.get(photo + "/layers/conv2/1/projection.png").status_code == 200
    assert time.monotonic() - start < 2
    assert listening.explorer.streams == 2
    for stream in streams:
        stream.__exit__(None, None, None)
    until(lambda: listening.explorer.streams == 0)
    assert client.post(photo + "/occlusion", json={"size": 16, "stride": 16}).status_code == 200


def test_a_stream_waits_where_others_would_be_turned_away(client, photo, listening, gate, monkeypatch):
    monkeypatch.setattr(work, "_PATIENCE", 0.01)
    listening.explorer.worker.most_waiting = 1
    with client.stream("POST", photo + "/occlusion", json={"size": 8, "stride": 8}) as answer:
        lines = answer.iter_lines()
        next(lines)
        with gate.threads() as pool:
            others = [pool.submit(client.get, photo + "/layers/conv2/1/projection.png") for _ in range(2)]
            time.sleep(0.2)
            gate.opened.set()
            assert {other.result().status_code for other in others} <= {200, 503}
        *_, last = lines
        assert json.loads(last)["done"] == 16


def test_the_end_waits_for_nobody(client, photo, listening, gate):
    with gate.threads() as pool:
        asked = pool.submit(client.get, photo + "/layers/conv2/1/projection.png")
        until(lambda: gate.calls == 1)
        idle = listening.connect()
        start = time.monotonic()
        listening.stop()
        assert time.monotonic() - start < 2
        assert isinstance(asked.exception(), httpx.TransportError)
        gate.opened.set()
        idle.close()
