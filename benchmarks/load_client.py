"""Load client and picture server of the serving benchmarks, written to use little CPU.

Each is a process of its own with raw sockets, because its CPU is taken from the service that is
measured. No two requests carry the same bytes: a number of fixed length stands in each, so nothing
in flight is ever shared. `python -m benchmarks.load_client ROLE` starts one as a child.
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
    """What one client process is to do.

    `parts` are pairs of base64: a body is the first, a number, the second. With `rate` 0 the loop
    is closed: each of `clients` asks again when it is answered. Else it is open: `rate` requests a
    second are due, at even or (`poisson`) random instants, whether or not the service keeps up,
    and latency counts from the instant due. The first `warm_s` seconds are not counted. With
    `answers` the result lists each answer's picture, model version and probability, and the times
    of failures.
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
    """What the threads write down, in seconds since the beginning; appending is atomic."""

    done: list[tuple[float, float]] = field(default_factory=list)  # asked (or due), answered
    failures: list[tuple[str, float]] = field(default_factory=list)  # what, and when
    answers: list[tuple[int, str, float]] = field(default_factory=list)


def upload_parts(pictures: list[bytes]) -> list[Part]:
    """Bodies that are pictures; the number follows a picture's end, where no decoder looks."""
    return [(base64.b64encode(one).decode(), "") for one in pictures]


def url_parts(port: int, count: int) -> list[Part]:
    """Bodies that name pictures of the picture server on `port`."""
    # Left open: the number and the end of the JSON are put behind it, request by request.
    links = [f'{{"url": "http://127.0.0.1:{port}/{n}.png?' for n in range(count)]
    return [(base64.b64encode(one.encode()).decode(), "In0=") for one in links]  # `"}`


def ways_to_ask(pictures: list[bytes], port: int) -> dict[str, tuple[list[Part], str]]:
    """Bodies and content type by `upload`, and by `url` from the picture server on `port`."""
    return {
        "upload": (upload_parts(pictures), "image/png"),
        "url": (url_parts(port, len(pictures)), "application/json"),
    }


class Client:
    """Asks as its job says, over a connection a thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._bodies = [(base64.b64decode(a), base64.b64decode(b)) for a, b in job.parts]
        # Numbers that no earlier run has used: a cache that remembers must not answer for the
        # service.
        self._numbers = itertools.count(int(time.time() * 1000) * 10**4)
        self._turns = itertools.count()
        self._dues = _due_times(job)
        self._tally = _Tally()

    def run(self) -> dict[str, Any]:
        """Ask for the job's seconds; return rate, latencies, failures and this process's CPU."""
        threads = [threading.Thread(target=self._ask_on) for _ in range(self._job.clients)]
        # Before the first thread: due times count from here.
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
                # From the instant due: else a stall would slow the asking and hide itself.
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
        """A new connection, tried for until the time is over: a thread that gave up would lower
        the load unnoticed."""
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
    """Instants in 0…`seconds` at which requests are due; the random ones are the same each time."""
    if not job.rate:
        return []
    gaps = random.Random(0)
    count = int(job.rate * job.seconds)
    if not job.poisson:
        return [n / job.rate for n in range(count)]
    return list(itertools.accumulate(gaps.expovariate(job.rate) for _ in range(count)))


def _summarise(job: Job, tally: _Tally, took_s: float, cpu_s: float) -> dict[str, Any]:
    counted = [end - asked for asked, end in tally.done if asked >= job.warm_s]
    # By the instant of the answer: what comes after the end is no rate of these seconds.
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
    """Every answer, and how many failed in which second: in one bad moment, or steadily."""
    failed = Counter(int(at_s) for _, at_s in tally.failures)
    return {"answers": tally.answers, "failures_by_second": failed}


def _percentile_ms(latencies_s: list[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not latencies_s:
        return None
    ranked = sorted(latencies_s)
    return round(1000 * ranked[min(len(ranked) - 1, int(share * len(ranked)))], 1)


def main() -> None:
    """Be one of the child processes: `client`, `pictures FILE…` or `answerer`."""
    role, *paths = sys.argv[1:]
    if role == "client":
        job = json.loads(sys.stdin.read())
        print(json.dumps(Client(Job(**job)).run()))
        return
    listener = listen()
    # Flushed, since the parent waits for this line and the process then serves for ever.
    print(listener.getsockname()[1], flush=True)
    pictures = [Path(path).read_bytes() for path in paths]
    arguments = (pictures, listener) if role == "pictures" else (listener,)
    target = serve_pictures if role == "pictures" else answer_all
    threads = [threading.Thread(target=target, args=arguments) for _ in range(ANSWERERS)]
    for thread in threads:
        thread.start()


def encode_job(job: Job) -> str:
    """Return the job as the text that the client's process reads."""
    return json.dumps(asdict(job))


if __name__ == "__main__":
    main()
