from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leruli_queue.errors import SetupError
from leruli_queue.settings import load_settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LERULI_QUEUE_DATABASE_URL", raising=False)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def test_a_secret_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leruli_queue_database_url").write_text("postgresql://from-file\n")
    (tmp_path / "leruli_queue_nomad_token").write_text("token-from-file")
    monkeypatch.setenv("LERULI_QUEUE_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("LERULI_QUEUE_NOMAD_SERVERS", "a:4647, b:4647")
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql://from-file"
    assert settings.nomad_token is not None
    assert settings.nomad_token.get_secret_value() == "token-from-file"
    assert settings.nomad_servers == ["a:4647", "b:4647"]
    assert "from-file" not in repr(settings)


def test_the_environment_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leruli_queue_database_url").write_text("postgresql://from-file")
    monkeypatch.setenv("LERULI_QUEUE_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("LERULI_QUEUE_DATABASE_URL", "postgresql://from-environment")
    assert load_settings().database_url.get_secret_value() == "postgresql://from-environment"


def test_all_wrong_settings_are_named_at_once_without_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LERULI_QUEUE_LISTEN_PORT", "CANARY")
    monkeypatch.setenv("LERULI_QUEUE_WINDOW_MIN", "0")
    with pytest.raises(SetupError) as refusal:
        load_settings()
    sentence = str(refusal.value)
    for name in ("DATABASE_URL", "LISTEN_PORT", "WINDOW_MIN"):
        assert f"LERULI_QUEUE_{name}: " in sentence
    assert "CANARY" not in sentence


def test_a_missing_secrets_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LERULI_QUEUE_SECRETS_DIR", "/nowhere")
    with pytest.raises(SetupError, match="/nowhere, which is not a folder"):
        load_settings()


MAIL = {"SMTP_HOST": "mail.example.org", "SMTP_FROM": "queue@example.org"}
LOGIN = {"SMTP_USER": "queue", "SMTP_PASSWORD": "CANARY-of-mail"}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"SMTP_HOST": "mail.example.org"}, "SMTP_FROM: "),
        (MAIL | {"SMTP_FROM": "Queue <queue@example.org>"}, "SMTP_FROM: "),
        (MAIL | {"SMTP_FROM": "queue@example.org\nBcc: eve@example.org"}, "SMTP_FROM: "),
        (MAIL | {"SMTP_HOST": "mail.example.org "}, "SMTP_HOST: "),
        (MAIL | {"SMTP_USER": "queue"}, "SMTP_PASSWORD: "),
        (MAIL | {"SMTP_PASSWORD": "CANARY-of-mail"}, "SMTP_PASSWORD: "),
        (MAIL | LOGIN | {"SMTP_TLS": "none"}, "SMTP_PASSWORD: "),
        (MAIL | LOGIN | {"SMTP_TLS": "none", "SMTP_HOST": "10.0.0.1"}, "SMTP_PASSWORD: "),
        (MAIL | {"SMTP_TLS": "maybe"}, "SMTP_TLS: "),
    ],
)
def test_wrong_settings_of_mail_are_named_without_values(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], wrong: str
) -> None:
    monkeypatch.setenv("LERULI_QUEUE_DATABASE_URL", "postgresql://from-environment")
    for name, value in given.items():
        monkeypatch.setenv(f"LERULI_QUEUE_{name}", value)
    with pytest.raises(SetupError) as refusal:
        load_settings()
    assert f"LERULI_QUEUE_{wrong}" in str(refusal.value)
    assert "CANARY" not in str(refusal.value)


@pytest.mark.parametrize(
    "given",
    [
        MAIL,
        MAIL | LOGIN,
        MAIL | LOGIN | {"SMTP_TLS": "none", "SMTP_HOST": "localhost"},
        MAIL | LOGIN | {"SMTP_TLS": "none", "SMTP_HOST": "::1"},
        MAIL | {"SMTP_TLS": "none", "SMTP_HOST": "10.0.0.1"},
    ],
)
def test_settings_of_mail(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    monkeypatch.setenv("LERULI_QUEUE_DATABASE_URL", "postgresql://from-environment")
    monkeypatch.setenv("LERULI_QUEUE_SMTP_DOMAINS", "example.org, lab.example,")
    for name, value in given.items():
        monkeypatch.setenv(f"LERULI_QUEUE_{name}", value)
    settings = load_settings()
    assert settings.smtp_host == given["SMTP_HOST"]
    assert settings.smtp_domains == ["example.org", "lab.example"]
    assert "CANARY" not in repr(settings)
    assert ("CANARY-of-mail" in settings.secret_values()) == ("SMTP_PASSWORD" in given)
