"""Load client and picture server of the serving benchmarks, written to use little CPU.

Each runs in its own process and uses raw sockets, because its CPU time is lost to the service that
is measured. No two requests carry the same bytes: each contains a different number of fixed length,
so the service can never share one answer between two requests. The benchmarks start a child process
with `python -m benchmarks.load_client ROLE`.
"""

from __future__ import annotations

import base64
import itertools
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.sockets import answer_all, connect, listen, read_answer, serve_pictures

NUMBER_LENGTH = 18
ANSWERERS = 8
Part = tuple[str, str]


@dataclass(frozen=True)
class Job:
    """The work of one client process.

    `parts` are pairs of base64 texts; a request's body is the first text, a number and the second
    text. With `rate` 0 the loop is closed: each of `clients` sends its next request when the last
    one was answered. With a higher `rate` the loop is open: `rate` requests per second are due,
    evenly spaced or (`poisson`) at random times, whether or not the service keeps up, and latency
    counts from the time at which a request was due. The first `warm_s` seconds are not counted.
    With `answers`, the result also lists each answer's picture, model version and probability, and
    the number of failures in each second.
    """

    port: int
    parts: list[Part]
    content_type: str
    clients: int
    seconds: float
    rate: float = 0.0
    poisson: bool = False
    warm_s: float = 1.0
    answers: bool = False


@dataclass
class _Tally:
    """Records of all threads; times are in seconds since the start. Appending is atomic."""

    done: list[tuple[float, float]] = field(default_factory=list)  # time sent (or due), answered
    failures: list[tuple[str, float]] = field(default_factory=list)  # error or status, time
    answers: list[tuple[int, str, float]] = field(default_factory=list)


def upload_parts(pictures: list[bytes]) -> list[Part]:
    """Return bodies that are pictures; decoders skip the number, which follows the picture."""
    return [(base64.b64encode(one).decode(), "") for one in pictures]


def url_parts(port: int, count: int) -> list[Part]:
    """Return bodies with links to the pictures of the picture server on `port`."""
    # The JSON text stops after "?". Each request appends its number and the closing `"}`.
    links = [f'{{"url": "http://127.0.0.1:{port}/{n}.png?' for n in range(count)]
    return [(base64.b64encode(one.encode()).decode(), "In0=") for one in links]  # `"}`


def ways_to_ask(pictures: list[bytes], port: int) -> dict[str, tuple[list[Part], str]]:
    """Return bodies and content type for `upload`, and for `url` (picture server on `port`)."""
    return {
        "upload": (upload_parts(pictures), "image/png"),
        "url": (url_parts(port, len(pictures)), "application/json"),
    }


class Client:
    """A load client that does one job, with one connection per thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._bodies = [(base64.b64decode(a), base64.b64decode(b)) for a, b in job.parts]
        # Starts from the clock, so that no number was used by an earlier run. Otherwise the
        # service could answer from its cache.
        self._numbers = itertools.count(int(time.time() * 1000) * 10**4)
        self._turns = itertools.count()
        self._dues = _due_times(job)
        self._tally = _Tally()

    def run(self) -> dict[str, Any]:
        """Send requests for the job's time; return rate, latencies, failures and CPU used here."""
        threads = [threading.Thread(target=self._ask_on) for _ in range(self._job.clients)]
        # Set before the first thread starts, because due times count from here.
        self._begin, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s, cpu_s = self._now(), time.process_time() - cpu
        return _summarise(self._job, self._tally, took_s, cpu_s)

    def _now(self) -> float:
        return time.perf_counter() - self._begin

    def _ask_on(self) -> None:
        connection = connect(self._job.port)
        while self._now() < self._job.seconds:
            turn = next(self._turns)
            asked_s = self._now()
            if self._job.rate:
                if turn >= len(self._dues):
                    break
                # Latency counts from the due time. If it counted from the sending, a stall of the
                # service would delay the sending too, and would not show in the latency.
                asked_s = self._dues[turn]
                time.sleep(max(0.0, asked_s - self._now()))
            try:
                self._ask(connection, turn, asked_s)
            except OSError as error:
                self._fail(error)
                connection.close()
                connection = self._connect_again() or connection
        connection.close()

    def _fail(self, error: OSError) -> None:
        self._tally.failures.append((type(error).__name__, self._now()))

    def _connect_again(self) -> socket.socket | None:
        """Return a new connection, or None if there was none until the end of the job.

        A thread that gave up earlier would lower the load unnoticed.
        """
        while self._now() < self._job.seconds:
            try:
                return connect(self._job.port)
            except OSError as error:
                self._fail(error)
                time.sleep(0.05)
        return None

    def _ask(self, connection: socket.socket, turn: int, asked_s: float) -> None:
        which = turn % len(self._bodies)
        before, after = self._bodies[which]
        length = len(before) + NUMBER_LENGTH + len(after)
        head = (
            f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {self._job.content_type}"
            f"\r\nContent-Length: {length}\r\n\r\n"
        )
        number = b"%0*d" % (NUMBER_LENGTH, next(self._numbers))
        connection.sendall(b"".join((head.encode(), before, number, after)))
        status, body = read_answer(connection)
        if status != 200:
            self._tally.failures.append((str(status), self._now()))
            return
        self._tally.done.append((asked_s, self._now()))
        if self._job.answers:
            answer = json.loads(body)
            version = answer["model"]["version"]
            self._tally.answers.append((which, version, answer["probability"]))


def _due_times(job: Job) -> list[float]:
    """Return the times of 0…`seconds` at which requests are due; random times are the same in
    every run."""
    if not job.rate:
        return []
    gaps = random.Random(0)
    count = int(job.rate * job.seconds)
    if not job.poisson:
        return [n / job.rate for n in range(count)]
    return list(itertools.accumulate(gaps.expovariate(job.rate) for _ in range(count)))


def _summarise(job: Job, tally: _Tally, took_s: float, cpu_s: float) -> dict[str, Any]:
    counted = [end - asked for asked, end in tally.done if asked >= job.warm_s]
    # Counted by the time of the answer: an answer after the end does not belong to the rate.
    ended = sum(job.warm_s <= end <= job.seconds for _, end in tally.done)
    sent = max(1, len(tally.done) + len(tally.failures))
    return {
        "requests_per_s": round(ended / (job.seconds - job.warm_s), 2),
        "p50_ms": _percentile_ms(counted, 0.5),
        "p99_ms": _percentile_ms(counted, 0.99),
        "client_cpu_s_per_request": round(cpu_s / sent, 5),
        "client_cpu_s_per_s": round(cpu_s / took_s, 4),
        "sent": sent,
        "failures": Counter(name for name, _ in tally.failures),
        **(_tell_each(tally) if job.answers else {}),
    }


def _tell_each(tally: _Tally) -> dict[str, Any]:
    """Return every answer, and the failures per second, which show if they came all at once."""
    failed = Counter(int(at_s) for _, at_s in tally.failures)
    return {"answers": tally.answers, "failures_by_second": failed}


def _percentile_ms(latencies_s: list[float], share: float) -> float | None:
    """Return the nearest-rank percentile, or None if there are no latencies."""
    if not latencies_s:
        return None
    ranked = sorted(latencies_s)
    return round(1000 * ranked[min(len(ranked) - 1, int(share * len(ranked)))], 1)


def main() -> None:
    """Run one of the roles: `client`, `pictures FILE…` or `answerer`."""
    role, *paths = sys.argv[1:]
    if role == "client":
        job = json.loads(sys.stdin.read())
        print(json.dumps(Client(Job(**job)).run()))
        return
    listener = listen()
    # Flushed at once, because the parent process waits for this line.
    print(listener.getsockname()[1], flush=True)
    pictures = [Path(path).read_bytes() for path in paths]
    arguments = (pictures, listener) if role == "pictures" else (listener,)
    target = serve_pictures if role == "pictures" else answer_all
    threads = [threading.Thread(target=target, args=arguments) for _ in range(ANSWERERS)]
    for thread in threads:
        thread.start()


def encode_job(job: Job) -> str:
    """Return the job as the JSON text that the client process reads from its standard input."""
    return json.dumps(asdict(job))


if __name__ == "__main__":
    main()
