"""The log warns of a certificate that expires soon."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_world import captured_log

from leruli_queue.nodes.tls_folder import TlsFolder
from leruli_queue.nomad import clusters
from leruli_queue.nomad.clusters import DEFAULT, read_clusters
from leruli_queue.settings import Settings


@pytest.mark.parametrize(("days", "times"), [(1, 1), (20, 1), (22, 0), (365, 0)])
def test_a_certificate_that_ends_soon_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, times: int
) -> None:
    """D18: of a certificate with a day left there was no line anywhere."""
    folder = TlsFolder(tmp_path)
    folder.renew("global", (), days=days)
    settings = Settings(
        database_url="postgresql://nowhere",
        nomad_ca_file=folder.ca,
        nomad_cert_file=folder.broker,
        nomad_key_file=folder.broker_key,
    )
    lines = captured_log(monkeypatch, clusters)
    for _ in range(3):
        read_clusters(settings)[DEFAULT].tls()
    told = [line for line in lines if "ends soon" in line["event"]]
    assert len(told) == times
    assert all(line["days_left"] == pytest.approx(days, abs=0.2) for line in told)
