import pytest

from leruli import settings
from leruli.errors import SettingsError

FULL = {
    "LERULI_BASEURL": "https://queue.example.org",
    "LERULI_API_SECRET": "lqa-aaaaaaaaaa",
    "LERULI_S3_SERVER": "https://s3.example.org",
    "LERULI_S3_ACCESS": "access",
    "LERULI_S3_SECRET": "topsecretvalue",
}


@pytest.fixture
def full(monkeypatch):
    for name, value in FULL.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_defaults(full):
    assert settings.service_settings().base_url == "https://queue.example.org"
    assert settings.storage_settings().secure
    assert settings.storage_settings().host == "s3.example.org"


@pytest.mark.parametrize(
    "read",
    [
        settings.service_settings,
        lambda: settings.admin_settings("lqa-x"),
        lambda: settings.reader_settings("lqg-x"),
    ],
)
def test_no_secret_goes_to_a_default_address(full, read):
    """D2: without LERULI_BASEURL the secret of a group's own service went to api.leruli.com."""
    full.delenv("LERULI_BASEURL")
    with pytest.raises(SettingsError) as caught:
        read()
    assert str(caught.value).startswith("LERULI_BASEURL is not set.")
    assert "https://api.leruli.com" in str(caught.value)


@pytest.mark.parametrize("name", ["LERULI_BASEURL", "LERULI_S3_SERVER"])
def test_plain_http_to_another_machine_needs_a_setting(full, name):
    """D18: secrets were sent by plain http without a warning."""
    for url in ("http://10.0.0.1:9000", "http://queue.example.org", "http://localhost.example.org"):
        full.setenv(name, url)
        with pytest.raises(SettingsError, match="LERULI_ALLOW_PLAIN_HTTP=1") as caught:
            settings.service_settings(), settings.storage_settings()
        assert str(caught.value).startswith(name)
        full.setenv("LERULI_ALLOW_PLAIN_HTTP", "1")
        settings.service_settings(), settings.storage_settings()
        full.delenv("LERULI_ALLOW_PLAIN_HTTP")
    for url in ("http://127.0.0.1:9000", "http://localhost:1", "http://[::1]:9000"):
        full.setenv(name, url)
        settings.service_settings(), settings.storage_settings()


def test_a_missing_setting_is_marked_among_the_five(full):
    full.delenv("LERULI_S3_ACCESS")
    with pytest.raises(SettingsError) as caught:
        settings.require(settings.ALL)
    text = str(caught.value)
    assert text.startswith("LERULI_S3_ACCESS is not set.")
    assert all(f"export {name}=" in text for name in FULL)
    assert text.count("# missing") == 1


@pytest.mark.parametrize(
    ("url", "host", "secure"),
    [
        ("http://127.0.0.2:9000", "127.0.0.2:9000", False),
        ("https://s3.example.org/", "s3.example.org", True),
        ("  https://s3.example.org:443  ", "s3.example.org:443", True),
        ("HTTPS://s3.example.org", "s3.example.org", True),
        ("http://[::1]:9000", "[::1]:9000", False),
    ],
)
def test_server(full, url, host, secure):
    full.setenv("LERULI_S3_SERVER", url)
    found = settings.storage_settings()
    assert (found.host, found.secure) == (host, secure)


@pytest.mark.parametrize(
    "url",
    [
        *("s3.example.org", "ftp://s3.example.org", "https://", "https://s3.example.org/path"),
        *("https://me:topsecretvalue@s3.example.org", "http://host:port", "http://a b"),
    ],
)
def test_bad_server(full, url):
    full.setenv("LERULI_S3_SERVER", url)
    with pytest.raises(SettingsError, match="LERULI_S3_SERVER") as caught:
        settings.storage_settings()
    assert "topsecretvalue" not in str(caught.value)


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_an_invalid_retry_time_is_refused(full, value):
    full.setenv("LERULI_RETRY_SECONDS", value)
    with pytest.raises(SettingsError, match="LERULI_RETRY_SECONDS"):
        settings.service_settings()


def test_secrets_are_not_in_representations(full):
    shown = f"{settings.service_settings()} {settings.storage_settings()}"
    assert "lqa-" not in shown
    assert "topsecretvalue" not in shown
