"""A reduced `tests/fuzz/fuzz_requests.py`: spoilt requests of every form to a real service."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.hostile_requests import Requests, exchange
from support.hostile_samples import CT, HOSTILE, JPEG, PNG
from support.real_service import running

CLIENTS, EACH = 4, 100
IMAGES = (PNG, JPEG, CT) * 8 + tuple(data for data in HOSTILE.values() if len(data) < 50_000)


@pytest.fixture(scope="module")
def service(tiny_models, tmp_path_factory):
    log = tmp_path_factory.mktemp("fuzz") / "log.txt"
    settings = {"model_dir": str(tiny_models), "precision": "f32", "max_queue": "3"}
    with running(log, **settings) as service:
        yield service


def test_no_spoilt_request_is_a_fault_of_ours(service):
    def ask(client: int) -> list[str]:
        requests, faults = Requests(random.Random(client), IMAGES), []
        for _ in range(EACH):
            request = requests.draw()
            if fault := exchange(service.port, request).fault():
                faults.append(f"{fault}: {request[:500]!r}")
        return faults

    with ThreadPoolExecutor(CLIENTS) as clients:
        faults = list(itertools.chain.from_iterable(clients.map(ask, range(CLIENTS))))
    assert not faults, faults[:3]
    assert service.process.poll() is None and service.is_ready()
    assert "Traceback" not in service.log.read_text()
