# SPDX-License-Identifier: Apache-2.0
"""What doctor's tests stand on: a vendor with a clock and a certificate of its own, and a machine that trusts it."""

from __future__ import annotations

import datetime
import http.server
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from harness import DIST, Daemon, Run


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`good` and `expired` for localhost and hooks.example.com, each with its key in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.datetime.now(datetime.UTC)
    made: dict[str, Path] = {}
    for name, end in [("good", now + datetime.timedelta(days=2)), ("expired", now - datetime.timedelta(days=1))]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"milepost test {name}")])
        certificate = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(end)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName("hooks.example.com")]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        path = folder / f"{name}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        made[name] = path
    return made


def trusting(certificate: Path, daemon: Daemon, hosts: str | None = None) -> Run:
    """Doctor on a machine that trusts this certificate alone and, if given, knows these names."""
    places = {"/etc/ssl/certs/ca-certificates.crt": certificate}
    if hosts:
        (daemon.directory / "hosts").write_text(hosts)
        places["/etc/hosts"] = daemon.directory / "hosts"
    mounts = " && ".join(f"mount --bind '{source}' $(realpath {place})" for place, source in places.items())
    command = [str(DIST / "milepost"), "doctor", "--config", str(daemon.config_file), "--json"]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command],
        env={**daemon.environment(), "MILEPOST_URL": daemon.url, "MILEPOST_TOKEN": daemon.token or ""},
        capture_output=True, text=True, timeout=60)
    if done.returncode != 0 and not done.stdout and "unshare" in done.stderr:
        pytest.skip("a mount namespace needs CAP_SYS_ADMIN")
    return Run(done.returncode, done.stdout, done.stderr)


class vendor:
    """A server that answers everything, with a clock of its own and over TLS if it has a certificate."""

    def __init__(
        self, seen: list[tuple[str, dict[str, str]]] | None = None, offset: datetime.timedelta = datetime.timedelta(),
        certificate: Path | None = None, body: bytes = b"",
    ):
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                if seen is not None:
                    seen.append((self.command, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response_only(404 if not body else 200)
                moment = datetime.datetime.now(datetime.UTC) + offset
                self.send_header("Date", moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.certificate = certificate
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake belongs to the connection's own thread: a client that refuses must not end the server.
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
            self.server.handle_error = lambda *_: None

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        port = self.server.server_port
        return f"https://localhost:{port}" if self.certificate else f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
