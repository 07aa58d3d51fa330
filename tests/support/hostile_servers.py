"""Small TCP servers that misbehave on purpose, on loopback, and certificates of the tests' own."""

import datetime
import ipaddress
import socket
import ssl
import threading
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


class Server:
    """Answers each connection with what `answer(connection)` sends; counts the connections."""

    def __init__(self, answer, tls: ssl.SSLContext | None = None):
        self.answer, self.tls, self.visits, self.heads = answer, tls, 0, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.visits += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            connection.settimeout(10)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(65536)
                if not part:
                    return
                head += part
            self.heads.append(head.decode())
            self.answer(connection)
        except OSError:
            return  # the client ended it, which is what many of these tests want
        finally:
            connection.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def sends(*parts: bytes):
    """An answer of fixed bytes."""
    return lambda connection: connection.sendall(b"".join(parts))


def image(body: bytes):
    """A whole, honest answer."""
    return sends(OK, b"Content-Length: %d\r\n\r\n" % len(body), body)


def redirect(location: str, status: int = 302):
    """An answer that leads elsewhere."""
    head = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return sends(head.encode())


@contextmanager
def drip(head: bytes, piece: bytes = b"x", every_s: float = 0.05):
    """A server that sends `head`, and then one piece at a time for ever."""

    def answer(connection):
        connection.sendall(head)
        while not server.ending.wait(every_s):
            connection.sendall(piece)

    with Server(answer) as server:
        yield server


def make_certificate(folder, name: str):
    """Return (server's TLS context, the client's that trusts it) for a certificate of `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(
        cadata=certificate.public_bytes(serialization.Encoding.PEM).decode()
    )
    return server, client
