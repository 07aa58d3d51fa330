"""Pool of child processes that decode compressed DICOM frames and may crash or hang.

A child is started if no idle child is left, and is kept for later frames, so there are as many
children as threads that decode at the same time. A child that dies or is late is replaced. Children
inherit only the environment variables of the library loader, so that a flaw in a codec cannot
reveal a key. `codec_child.py` calls the codecs.
"""

from __future__ import annotations

import atexit
import functools
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

from cspine.core.errors import ImageError
from cspine.core.process import bare_environment
from cspine.imaging.dicom.codec_child import ANSWER, REQUEST

_CHILD = Path(__file__).with_name("codec_child.py")
_DEADLINE_S = 4.0  # 512 × 512 pixels take 5–90 ms; 40 million of JPEG 2000 take some seconds


class Child:
    """One child process and its pipes, used by one thread at a time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            # -P keeps the script's folder off `sys.path`, where a file could shadow a library.
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # GDCM's codecs print messages that cannot be turned off
            env=bare_environment(),
            start_new_session=True,  # Ctrl-C reaches only the parent
        )

    def ask(self, request: bytes, most_bytes: int) -> bytes | None:
        """Return the child's answer; None if it died, was late or answered over `most_bytes`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        # A read from a pipe has no time limit, but killing the child ends the read.
        timer = threading.Timer(_DEADLINE_S, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
            head = self.process.stdout.read(ANSWER.size)
            size = ANSWER.unpack(head)[0]
            # A flaw in a codec must not let the child fill this process's memory.
            answer = self.process.stdout.read(min(size, most_bytes))
            return answer if len(answer) == size else None
        except (OSError, struct.error):  # the child is dead, and its pipe broken or empty
            return None
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the child and wait for it."""
        self.process.kill()
        self.process.communicate()


class CodecPool:
    """Children that decode one frame at a time each. The pool is safe to use from many threads.

    `idle` holds the children that wait for a frame, the last used at the end. `lost` counts the
    children that crashed or were late.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.idle: list[Child] = []
        self._lock = threading.Lock()

    def take(self) -> Child:
        """Return a child removed from `idle`, or a new one; the caller must end or return it."""
        with self._lock:
            while self.idle:
                child = self.idle.pop()
                if child.owner != os.getpid():  # after a fork, the parent owns the pipes
                    continue
                if child.process.poll() is None:
                    return child
                child.close()  # it ended while it was idle
                self.lost += 1
        return Child()

    def ask(self, request: bytes, most_bytes: int) -> bytes:
        """Return the answer of a child to `request`; b"" if the child gave none."""
        child = self.take()
        answer = child.ask(request, most_bytes)
        if answer is None:
            child.close()
            with self._lock:
                self.lost += 1
            return b""
        with self._lock:
            self.idle.append(child)
        return answer

    def close(self) -> None:
        """End all idle children."""
        with self._lock:
            children, self.idle = self.idle, []
        for child in children:
            child.close()


@functools.cache
def shared_pool() -> CodecPool:
    """Return the one pool of this process; its children end with it."""
    pool = CodecPool()
    atexit.register(pool.close)
    return pool


def decode_in_child(
    stream: bytes, syntax: str, shape: tuple[int, int], bits: tuple[int, int], is_signed: bool
) -> bytes:
    """Return the little-endian samples of one monochrome frame.

    `shape` is (rows, columns), each under 65536; `bits` is (allocated, stored) per sample.

    Raises:
        ImageError: the child crashed, was late or could not decode the stream.
    """
    rows, columns = shape
    head = REQUEST.pack(len(stream), rows, columns, *bits, is_signed, syntax.encode())
    size = rows * columns * bits[0] // 8
    frame = shared_pool().ask(head + stream, most_bytes=size + 1)  # some codecs pad to even size
    if len(frame) < size:
        raise ImageError("The compressed pixel data must be whole. Received: a damaged stream")
    return frame
