import logging

import pytest

from leruli.errors import StorageError
from leruli.settings import StorageSettings
from leruli.storage import Store


def test_retries_leave_no_bucket_name_in_the_log(caplog, monkeypatch):
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    caplog.set_level(logging.DEBUG)
    store = Store(StorageSettings("127.0.0.1:1", False, "access", "secret"))
    with pytest.raises(StorageError, match="did not answer") as caught:
        store.list("code-of-a-group")
    assert "code-of-a-group" not in str(caught.value)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
