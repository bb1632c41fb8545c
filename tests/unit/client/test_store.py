import logging

import pytest
import urllib3

from leruli.errors import StorageError
from leruli.settings import StorageSettings
from leruli.storage.store import Store


def test_retries_leave_no_bucket_name_in_the_log(caplog, monkeypatch):
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    caplog.set_level(logging.DEBUG)
    store = Store(StorageSettings("127.0.0.1:1", False, "access", "secret"))
    with pytest.raises(StorageError, match="did not answer") as caught:
        store.list("code-of-a-group")
    assert "code-of-a-group" not in str(caught.value)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_bucket_name_is_not_in_the_host_name(monkeypatch):
    """M17: for AWS minio puts the bucket into the host name. DNS and TLS would reveal the token."""
    asked = []

    def urlopen(pool, method, url, **more):
        asked.append(url)
        raise urllib3.exceptions.HTTPError("nothing is sent")

    monkeypatch.setattr("urllib3.PoolManager.urlopen", urlopen)
    host = "s3.eu-central-1.amazonaws.com"
    store = Store(StorageSettings(host, True, "access", "secret", region="eu-central-1"))
    with pytest.raises(StorageError):
        store.list("code-of-a-group")
    assert asked
    assert all(url.startswith(f"https://{host}/code-of-a-group") for url in asked)
