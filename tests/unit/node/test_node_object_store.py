"""The agent's line to the object store, where a real one cannot show the case."""

from __future__ import annotations

import pytest
import urllib3

from leruli_node.object_store import ObjectStore, StoreAway


def test_a_buckets_name_is_not_part_of_a_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """M17: minio addresses AWS by host, so DNS and TLS would tell the group token.

    What would be sent is caught: a FAKE of the network.
    """
    asked: list[str] = []

    def urlopen(pool: object, method: str, url: str, **more: object) -> None:
        asked.append(url)
        raise urllib3.exceptions.HTTPError("nothing is sent")

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", urlopen)
    host = "s3.eu-central-1.amazonaws.com"
    store = ObjectStore(f"https://{host}", "access", "secret", "eu-central-1")
    with pytest.raises(StoreAway):
        store.etag("code-of-a-group", "plain-1.tgz")
    assert asked
    assert all(url.startswith(f"https://{host}/code-of-a-group/") for url in asked)
