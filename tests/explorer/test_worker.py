"""The networks' thread, and many requests at once."""

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
from deconvnet.explorer import worker as worker_module
from deconvnet.explorer.occlusion_stream import OcclusionSweep
from deconvnet.explorer.responses import RequestCancelled, ServerBusy
from deconvnet.explorer.uploads import BodyLimit
from deconvnet.explorer.worker import Worker
from helpers.exploring import image_bytes, read_response


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def test_functions_run_one_at_a_time_in_the_order_of_their_arrival():
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


def test_the_queue_is_limited_and_cancelled_jobs_do_not_run():
    worker, release, done = Worker(max_waiting=2), threading.Event(), []

    async def ask():
        running = asyncio.ensure_future(worker.run(lambda: release.wait(5)))
        await asyncio.sleep(0)
        goes = asyncio.ensure_future(worker.run(lambda: done.append("goes"), asyncio.sleep(0.05)))
        cancelled = asyncio.ensure_future(worker.run(lambda: done.append("cancelled")))
        await asyncio.sleep(0)
        with pytest.raises(ServerBusy):
            await worker.run(lambda: done.append("one too many"))
        with pytest.raises(RequestCancelled):
            await goes
        cancelled.cancel()
        await asyncio.sleep(0)
        waits = asyncio.ensure_future(worker.run(lambda: done.append("waits")))
        retries = asyncio.ensure_future(worker.run_retrying(lambda: done.append("retries")))
        await asyncio.sleep(0)
        release.set()
        assert await running is True
        await asyncio.gather(waits, retries)

    asyncio.run(ask())
    assert done == ["waits", "retries"]
    worker.close()


def test_a_job_whose_client_has_gone_ends_at_its_next_step():
    worker, steps, ended = Worker(), [], threading.Event()

    def job():
        try:
            while True:
                worker.check_cancelled()
                steps.append(1)
                time.sleep(0.005)
        finally:
            ended.set()

    async def ask():
        with pytest.raises(RequestCancelled):
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
        with pytest.raises(RequestCancelled):
            await waiting
        with pytest.raises(RequestCancelled):
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


def test_silent_connections_are_given_up(running_server, monkeypatch):
    monkeypatch.setattr("deconvnet.explorer.server._REQUEST_HEAD_SECONDS", 0.3)
    half = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{running_server.port}\r\n"
    for begins in ("", half, f"{half}\r\n"):  # nothing, half a question, or one and then half of another
        with running_server.connect() as connection:
            connection.sendall(begins.encode())
            if begins.endswith("\r\n\r\n"):
                assert connection.recv(12) == b"HTTP/1.1 200"
                connection.sendall(half.encode())
            connection.settimeout(8)
            start = time.monotonic()
            read_response(connection)  # until the server closes
            assert time.monotonic() - start < 3
    assert running_server.get("/")[0] == 200


@pytest.fixture
def client(running_server):
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=running_server.address, timeout=30, limits=limits) as client:
        yield client


@pytest.fixture
def image_path(client):
    return f"/api/photos/{upload(client).json()['photo']}/little-atlas"


def upload(client, seed=0):
    content = image_bytes(seed=seed, size=(300, 200))
    return client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream"})


class Gate:
    """Replaces a function: counts its calls, and blocks them until `opened` is set."""

    def __init__(self, function):
        self.function, self.calls, self.opened = function, 0, threading.Event()

    def __call__(self, *arguments):
        self.calls += 1
        self.opened.wait(20)
        return self.function(*arguments)

    @contextmanager
    def threads(self):
        """A thread pool; at its end the gate is opened, so that no thread is left waiting."""
        with ThreadPoolExecutor(40) as pool:
            try:
                yield pool
            finally:
                self.opened.set()


@pytest.fixture
def gate(monkeypatch, running_server):
    from deconvnet.explorer import routes

    running_server.wait_for_warm_up()  # or its job would take one of the places that the tests count
    gate = Gate(routes.projection_pixels)
    monkeypatch.setattr(routes, "projection_pixels", gate)
    yield gate
    gate.opened.set()


def status_or_busy(answer, good):
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {"error": "Too much is being asked at once: try again in a second."}
    else:
        assert answer.status_code == good, answer.text
    return answer.status_code


def test_fifty_uploads_at_once(client, monkeypatch):
    read_image, running, running_counts = uploads.read_image, [], []

    def slowly(content):
        running.append(1)
        running_counts.append(len(running))
        time.sleep(0.02)
        running.pop()
        return read_image(content)

    monkeypatch.setattr(uploads, "read_image", slowly)
    with ThreadPoolExecutor(50) as pool:
        statuses = [status_or_busy(answer, 201) for answer in pool.map(lambda seed: upload(client, seed), range(50))]
    assert set(statuses) <= {201, 503}
    assert statuses.count(201) >= uploads.MAX_CONCURRENT + uploads.MAX_WAITING
    assert max(running_counts) == 1
    assert upload(client).status_code == 201


def test_uploads_that_wait_are_not_read(running_server, client, monkeypatch):
    read, original = [], BodyLimit.read

    async def count(limit, receive):
        read.append(1)
        return await original(limit, receive)

    monkeypatch.setattr(BodyLimit, "read", count)
    head = (
        f"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1:{running_server.port}\r\nContent-Type: application/octet-stream\r\n"
    )
    slow = [running_server.connect() for _ in range(uploads.MAX_CONCURRENT + uploads.MAX_WAITING)]
    for connection in slow:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\na".encode())
    wait_until(lambda: len(read) == uploads.MAX_CONCURRENT)
    wait_until(lambda: running_server.explorer.upload_reader._waiting_count == uploads.MAX_WAITING)
    assert status_or_busy(upload(client), 0) == 503
    assert len(read) == uploads.MAX_CONCURRENT
    for connection in slow:
        connection.close()
    wait_until(lambda: running_server.explorer.upload_reader._waiting_count == 0)
    wait_until(lambda: upload(client).status_code == 201)


def test_fifty_projections_at_once(client, image_path):
    address = image_path + "/layers/conv2/1/projection.png"
    alone = client.get(address).content
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.get(address), range(50)))
    statuses = [status_or_busy(answer, 200) for answer in answers]
    assert statuses.count(200) > 32
    assert all(answer.content == alone for answer in answers if answer.status_code == 200)
    assert client.get(address).content == alone


def test_a_full_queue_is_answered_with_503(client, image_path, gate, running_server):
    address = image_path + "/layers/conv2/1/projection.png"
    worker = running_server.explorer.worker
    with gate.threads() as pool:
        waiting = [pool.submit(client.get, address) for _ in range(worker.max_waiting + 1)]
        wait_until(lambda: worker.job_count == worker.max_waiting + 1)
        assert status_or_busy(client.get(image_path), 0) == 503
        assert client.get("/api/networks").status_code == 200  # what needs no network is answered all the same
        gate.opened.set()
        answers = [answer.result() for answer in waiting]
        assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert client.get(image_path).status_code == 200


def test_a_request_whose_client_leaves_while_it_waits_is_not_computed(client, image_path, gate, running_server):
    address = image_path + "/layers/conv2/1/projection.png"
    with gate.threads() as pool:
        first = pool.submit(client.get, address)
        wait_until(lambda: gate.calls == 1)
        gone = [running_server.connect() for _ in range(5)]
        for connection in gone:
            connection.sendall(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{running_server.port}\r\n\r\n".encode())
        wait_until(lambda: running_server.explorer.worker.job_count == 6)
        for connection in gone:
            connection.close()
        wait_until(lambda: running_server.explorer.worker.job_count == 1)
        gate.opened.set()
        assert first.result().status_code == 200
    assert client.get(address).status_code == 200
    assert gate.calls == 2


def test_a_cancelled_occlusion_stops_computing(client, image_path, running_server, monkeypatch):
    run_batch, calls = OcclusionSweep.run_batch, []

    def slowly(sweep):
        calls.append(1)
        time.sleep(0.02)
        return run_batch(sweep)

    monkeypatch.setattr(OcclusionSweep, "run_batch", slowly)
    monkeypatch.setattr("deconvnet.explorer.occlusion_stream._MAX_BATCH_SIZE", 1)
    with client.stream("POST", image_path + "/occlusion", json={"size": 5, "stride": 1}) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["positions"] == 784
        assert json.loads(next(lines))["done"] == 8
        assert running_server.explorer.stream_count == 1
    wait_until(lambda: running_server.explorer.stream_count == 0)
    count = len(calls)
    time.sleep(0.3)
    assert len(calls) == count < 100


def test_streams_let_others_in_between_and_are_few(client, image_path, running_server, monkeypatch):
    run_batch = OcclusionSweep.run_batch

    def slowly(sweep):
        time.sleep(0.01)
        return run_batch(sweep)

    monkeypatch.setattr(OcclusionSweep, "run_batch", slowly)
    monkeypatch.setattr("deconvnet.explorer.occlusion_stream._MAX_BATCH_SIZE", 1)
    monkeypatch.setattr("deconvnet.explorer.routes.MAX_STREAMS", 2)
    streams = [client.stream("POST", image_path + "/occlusion", json={"size": 5, "stride": 1}) for _ in range(2)]
    responses = [stream.__enter__() for stream in streams]
    assert [answer.status_code for answer in responses] == [200, 200]
    assert status_or_busy(client.post(image_path + "/occlusion", json={"size": 5}), 0) == 503
    start = time.monotonic()
    assert client.get(image_path + "/layers/conv2/1/projection.png").status_code == 200
    assert time.monotonic() - start < 2
    assert running_server.explorer.stream_count == 2
    for stream in streams:
        stream.__exit__(None, None, None)
    wait_until(lambda: running_server.explorer.stream_count == 0)
    assert client.post(image_path + "/occlusion", json={"size": 16, "stride": 16}).status_code == 200


def test_a_stream_retries_while_the_queue_is_full(client, image_path, running_server, gate, monkeypatch):
    monkeypatch.setattr(worker_module, "_RETRY_SECONDS", 0.01)
    running_server.explorer.worker.max_waiting = 1
    with client.stream("POST", image_path + "/occlusion", json={"size": 8, "stride": 8}) as answer:
        lines = answer.iter_lines()
        next(lines)
        with gate.threads() as pool:
            others = [pool.submit(client.get, image_path + "/layers/conv2/1/projection.png") for _ in range(2)]
            time.sleep(0.2)
            gate.opened.set()
            assert {other.result().status_code for other in others} <= {200, 503}
        *_, last = lines
        assert json.loads(last)["done"] == 16


def test_stopping_does_not_wait_for_open_connections(client, image_path, running_server, gate):
    with gate.threads() as pool:
        asked = pool.submit(client.get, image_path + "/layers/conv2/1/projection.png")
        wait_until(lambda: gate.calls == 1)
        idle = running_server.connect()
        start = time.monotonic()
        running_server.stop()
        assert time.monotonic() - start < 2
        assert isinstance(asked.exception(), httpx.TransportError)
        gate.opened.set()
        idle.close()
