"""The agent's calls to the object store, in cases that a real store cannot show."""

from __future__ import annotations

import threading

import pytest
import urllib3

from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_errors import StoreUnavailableError, UnstorableError
from leruli_node.objects.store_watch import StoreWatch


def test_a_bucket_name_is_not_part_of_a_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """M17: minio addresses AWS by host name, so DNS and TLS would reveal the group token.

    The request is intercepted: a FAKE of the network.
    """
    asked: list[str] = []

    def urlopen(pool: object, method: str, url: str, **more: object) -> None:
        asked.append(url)
        raise urllib3.exceptions.HTTPError("nothing is sent")

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", urlopen)
    host = "s3.eu-central-1.amazonaws.com"
    store = ObjectStore(f"https://{host}", "access", "secret", "eu-central-1")
    with pytest.raises(StoreUnavailableError):
        store.etag("code-of-a-group", "plain-1.tgz")
    assert asked
    assert all(url.startswith(f"https://{host}/code-of-a-group/") for url in asked)


@pytest.mark.parametrize(
    "page",
    [
        b"<html><br>We are mending it.</html>",
        b"\xff\xfe",
        b"<a><Contents><b/></Contents></a>",
        b"<a><Contents><Key>k</Key><LastModified>now</LastModified></Contents></a>",
    ],
)
def test_a_proxy_page_means_that_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch, page: bytes
) -> None:
    """M2: a proxy's page with status 200 ended the agent's start, or the job as input_broken.

    The answer is a FAKE of the network.
    """

    def urlopen(pool: object, *_: object, **more: object) -> urllib3.HTTPResponse:
        return urllib3.HTTPResponse(page, status=200, preload_content=True)

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", urlopen)
    store = ObjectStore("http://127.0.0.1:1", "access", "secret", "here")
    with pytest.raises(StoreUnavailableError):
        store.names("bucket")
    with pytest.raises(UnstorableError):
        store.names("no/bucket")
    watch = StoreWatch(store, lambda: "bucket", lambda: None)
    watch.check()
    assert watch.trouble is None


def test_the_store_watch_survives_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: otherwise a node that once had trouble would never take jobs again."""
    stop, checks = threading.Event(), []

    class Odd:
        def names(self, *_: object, **more: object) -> list[str]:
            checks.append(1)
            if len(checks) == 2:
                stop.set()
            raise KeyError("odd")

    monkeypatch.setattr("leruli_node.objects.store_watch._PERIOD", 0.0)
    StoreWatch(Odd(), lambda: "bucket", lambda: None).run(stop)  # type: ignore[arg-type]
    assert len(checks) == 2


def test_a_store_that_hangs_does_not_delay_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: the agent started Nomad only after the first check of the store had timed out.

    The store is a FAKE; tests/e2e/test_canaries.py stops a real one.
    """
    stop, asked = threading.Event(), threading.Event()

    class Hanging:
        def names(self, *_: object, **more: object) -> list[str]:
            asked.set()
            stop.wait(30)
            return []

    monkeypatch.setattr("leruli_node.objects.store_watch._FIRST_CHECK", 0.1)
    watch = StoreWatch(Hanging(), lambda: "bucket", lambda: None)  # type: ignore[arg-type]
    starting = threading.Thread(target=watch.start, args=(stop,))
    starting.start()
    try:
        assert asked.wait(10)
        starting.join(10)
        assert not starting.is_alive()
        assert watch.trouble is None
    finally:
        stop.set()
