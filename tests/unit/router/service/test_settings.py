"""What the environment says, and which halves and mistakes are refused at start, without showing a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.ledger.place import PostgresUrl
from router.service.settings import Settings

REDIS = "redis://sluice:hunter2@10.0.0.7:6380/1"
LEDGER = "postgresql://sluice:hunter2@10.0.0.8/ledger"


def test_without_anything_one_process_owns_a_file() -> None:
    """The defaults need no other service; every process has a name of its own."""
    first, second = Settings.from_environ({}), Settings.from_environ({"SLUICE_REDIS_URL": "", "SLUICE_REPLICA": ""})
    assert (first.ledger, first.redis, first.namespace) == (Path("sluice.sqlite"), None, "sluice")
    assert first.replica != second.replica


def test_replicas_share_redis_and_postgresql() -> None:
    """Both addresses, the namespace, the replica's name, and how much of the ledger may wait."""
    settings = Settings.from_environ(
        {
            "SLUICE_REDIS_URL": REDIS,
            "SLUICE_LEDGER": LEDGER,
            "SLUICE_REDIS_NAMESPACE": "staging",
            "SLUICE_REPLICA": "eu-1",
            "SLUICE_BACKLOG_MIB": "64",
            "SLUICE_METRICS_BY_TENANT": "50",
        }
    )
    assert str(settings.redis) == "10.0.0.7:6380"
    assert isinstance(settings.ledger, PostgresUrl)
    assert (settings.namespace, settings.replica, settings.backlog_bytes) == ("staging", "eu-1", 64 * 2**20)
    assert (settings.metrics_by_tenant, Settings().metrics_by_tenant) == (50, 0)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"SLUICE_REDIS_URL": REDIS}, "set SLUICE_LEDGER=postgresql://… too"),
        ({"SLUICE_REDIS_URL": REDIS, "SLUICE_LEDGER": "ledger.sqlite"}, "the ledger is the file ledger.sqlite"),
        ({"SLUICE_LEDGER": LEDGER}, "set SLUICE_REDIS_URL=redis://… too"),
        ({"SLUICE_LEDGER": "mysql://sluice:hunter2@db/ledger"}, "SLUICE_LEDGER: .*postgresql"),
        ({"SLUICE_REDIS_URL": "http://sluice:hunter2@redis", "SLUICE_LEDGER": LEDGER}, "SLUICE_REDIS_URL .*redis://"),
        (
            {"SLUICE_REDIS_URL": REDIS, "SLUICE_LEDGER": LEDGER, "SLUICE_REDIS_NAMESPACE": "a{b}"},
            "SLUICE_REDIS_NAMESPACE: 'a{b}' is no namespace",
        ),
        ({"SLUICE_REPLICA": "two words"}, "SLUICE_REPLICA is 'two words'"),
        ({"SLUICE_BACKLOG_MIB": "0"}, "SLUICE_BACKLOG_MIB must be mebibytes from 1"),
        ({"SLUICE_BACKLOG_MIB": "1e3"}, "SLUICE_BACKLOG_MIB"),
        ({"SLUICE_METRICS_BY_TENANT": "true"}, "SLUICE_METRICS_BY_TENANT must be a number of tenants from 0 to 1000"),
        ({"SLUICE_PORT": "65536"}, "SLUICE_PORT must be a port from 0 to 65535"),
        (
            {"SLUICE_PORT": "tcp://10.0.0.1:8080"},
            "Kubernetes sets for a Service of that name; say enableServiceLinks: false",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(environ: dict[str, str], says: str) -> None:
    """Half of what replicas share is refused: budgets in one place and a ledger in another would not agree."""
    with pytest.raises(ValueError, match=says) as raised:
        Settings.from_environ(environ)
    assert "hunter2" not in str(raised.value)
