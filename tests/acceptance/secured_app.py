"""An app whose messages are signed, with one saga."""

from __future__ import annotations

import os

from celery import Celery

from saga import Orchestrator, Saga, Step

folder = os.environ["SECURED_FOLDER"]
app = Celery("secured", broker=os.environ["CELERY_BROKER_URL"])
app.conf.update(
    task_default_queue=os.environ["ACCEPTANCE_QUEUE"],
    broker_connection_retry_on_startup=True,
    security_key=f"{folder}/private.key",
    security_certificate=f"{folder}/certificate.pem",
    security_cert_store=f"{folder}/*.pem",
    task_serializer="auth",
    event_serializer="auth",
    accept_content=["auth"],
)
app.setup_security()


@app.task(name="secured.greet", shared=False)
def greet(name: str) -> str:
    return f"hello {name}"


orchestrator = Orchestrator(
    app, sagas=[Saga("greeting", Step(greet, compensate=None), Step(greet, name="again", pivot=True))]
)

if __name__ == "__main__":
    print(orchestrator.start("greeting", {"name": "Ada"}).result(timeout=15))
    orchestrator.close()
