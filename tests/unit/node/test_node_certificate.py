"""When the certificate of Nomad's client is renewed. The clocks are FAKES."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from leruli_node.nomad import certificate as certificate_module
from leruli_node.nomad.certificate import NodeTls
from leruli_node.service.membership import Certificate
from leruli_queue.nodes.certificates import make_authority

_DAY = 86400.0


def test_a_certificate_is_renewed_by_both_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M7: after a day of suspend, or after the wall clock was set, the certificate had expired."""
    now = {"boot": 1000.0, "wall": time.time()}
    monkeypatch.setattr(certificate_module, "boottime", lambda: now["boot"])
    monkeypatch.setattr(time, "time", lambda: now["wall"])
    tls, authority = NodeTls(tmp_path), make_authority()

    def keep() -> None:
        pem = authority.sign_node(tls.request(), uuid.uuid4(), "global", timedelta(seconds=_DAY))
        tls.write(Certificate(authority.pem, pem, _DAY))

    assert not tls.is_due()
    keep()
    now.update(boot=now["boot"] + _DAY / 4, wall=now["wall"] + _DAY / 4)
    assert not tls.is_due()
    now["boot"] += _DAY / 4  # suspended: the monotonic clock stopped too
    assert tls.is_due()
    now["wall"] = time.time() - _DAY / 4
    keep()
    now.update(boot=now["boot"] + 400.0, wall=now["wall"] + _DAY)
    assert tls.is_due()
    # The service, whose clock is right, signs the same certificate again: not with every report.
    keep()
    assert not tls.is_due()
