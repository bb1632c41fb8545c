from __future__ import annotations

from leruli_node.images.names import etag_name, published_versions


def test_published_versions() -> None:
    names = ["psi4-1.10.tgz", "psi4-1.9.tgz", "psi4-dev-2.tgz", "psi4-x.txt", "psi4.tgz"]
    assert published_versions(names, "psi4") == ["1.9", "1.10"]
    assert published_versions(["a-beta.tgz", "a-1b.tgz"], "a") == ["beta", "1b"]


def test_the_etag_is_bound_to_code_and_version() -> None:
    names = {etag_name("p/k", c, v, e) for c in "ab" for v in "12" for e in "xy"}
    assert len(names) == 8
