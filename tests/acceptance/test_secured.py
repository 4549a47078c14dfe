"""Under ``setup_security()`` the messages of sagas are signed, and unsigned ones are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from saga.dev import Stack
from tests.acceptance.conftest import HERE, PATIENCE, eventually
from tests.conftest import make_database

pytestmark = pytest.mark.acceptance


def make_certificate(folder: Path) -> None:
    """A key, and a certificate that it signed itself. Celery takes each ``*.pem`` of its store for a certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secured")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "private.key").write_bytes(key.private_bytes(*form))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def test_sagas_run_on_signed_messages_and_unsigned_ones_are_refused(stack: Stack, tmp_path: Path) -> None:
    make_certificate(tmp_path)
    env = {
        "CELERY_BROKER_URL": stack.broker_url, "SAGA_DATABASE_URL": make_database(stack), "SECURED_FOLDER": str(tmp_path),
        "ACCEPTANCE_QUEUE": f"secured-{os.getpid()}", "SAGA_RELAY": "false",
    }  # fmt: skip
    worker = stack.worker("secured_app", cwd=HERE, env=env, concurrency=1)
    try:
        worker.wait_ready(PATIENCE)
        client = subprocess.run(
            [sys.executable, "secured_app.py"],
            cwd=HERE,
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert client.stdout == "{'greet': 'hello Ada', 'again': 'hello Ada'}\n", client.stderr
        with Celery("forger", broker=stack.broker_url, set_as_current=False) as forger:
            forger.send_task("saga.run", [[[str(uuid4()), "main"]]], queue=env["ACCEPTANCE_QUEUE"])
        eventually(lambda: "Refusing to deserialize" in worker.output(), "the refusal")
    finally:
        worker.kill()
