from __future__ import annotations

import re

import pytest
from cryptography.fernet import InvalidToken

from leruli_queue.access import sealing
from leruli_queue.access.secrets import (
    PATTERN,
    MalformedSecretError,
    SecretType,
    find_secrets,
    make,
    parse,
    redact,
    refuse_secrets,
)


@pytest.mark.parametrize("kind", list(SecretType))
def test_a_made_secret_is_recognised_and_fits_a_bucket_name(kind: SecretType) -> None:
    secret = make(kind)
    assert parse(secret.text) == secret
    assert re.fullmatch(PATTERN, secret.text)
    assert re.fullmatch(r"[a-z0-9-]{1,58}", secret.text)


def test_secrets_differ() -> None:
    assert len({make(SecretType.API).text for _ in range(100)}) == 100


def test_every_changed_character_is_noticed() -> None:
    text = make(SecretType.API).text
    for position, character in enumerate(text):
        other = "a" if character != "a" else "b"
        with pytest.raises(MalformedSecretError):
            parse(text[:position] + other + text[position + 1 :])


def test_a_secret_of_the_wrong_type_is_named() -> None:
    with pytest.raises(MalformedSecretError, match="a group token, where an API secret is wanted"):
        parse(make(SecretType.GROUP).text, SecretType.API)


@pytest.mark.parametrize("text", ["", "lqa", "hunter2", "lqa-" + "a" * 45, "💥" * 49])
def test_nonsense_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(MalformedSecretError) as refusal:
        parse(text)
    assert not text or text not in str(refusal.value)


def test_only_the_same_secret_matches_its_hash() -> None:
    secret, other = make(SecretType.API), make(SecretType.API)
    assert secret.matches(secret.hash)
    assert not secret.matches(other.hash)
    assert not secret.matches(None)


def test_repr_does_not_show_the_secret() -> None:
    secret = make(SecretType.API)
    assert secret.text not in repr(secret)


def test_only_the_sealing_secret_opens_the_group_token() -> None:
    token = make(SecretType.GROUP).text
    mine, other = make(SecretType.API), make(SecretType.API)
    sealed = sealing.seal_under(mine, token)
    assert token.encode() not in sealed
    assert sealing.unseal(sealed, mine) == token
    with pytest.raises(InvalidToken):
        sealing.unseal(sealed, other)


@pytest.mark.parametrize("around", ["{}", "code-{}", "x_{}y", "é{}", " {}\n"])
def test_a_text_with_a_secret_is_refused_without_being_repeated(around: str) -> None:
    secret = make(SecretType.GROUP).text
    for text in (around.format(secret), around.format(secret.upper()), f"{secret[:-1]}a"):
        with pytest.raises(ValueError, match="it holds a group token; take it out") as refusal:
            refuse_secrets(text)
        assert secret[20:30] not in str(refusal.value).lower()
    assert refuse_secrets("lqa, a name") == "lqa, a name"


def test_a_cut_off_secret_is_redacted_except_for_its_key_id() -> None:
    secret = make(SecretType.NODE)
    known = f"lqn-{secret.key_id}-[redacted]"
    for text in (secret.text, secret.text[:20], f"{secret.text}{secret.text[:30]}"):
        assert redact(f"it was {text}.") == f"it was {known}."
    assert redact(f"x_{secret.text}") == f"x_{known}"
    assert redact(f"key {secret.key_id}") == f"key {secret.key_id}"


@pytest.mark.parametrize("glued", [r"\n{}\n", "%22{}%22", "SECRET_{}_", "x{}x"])
def test_a_secret_is_found_between_other_letters(glued: str) -> None:
    secret = make(SecretType.API)
    assert list(find_secrets(glued.format(secret.text))) == [secret]


def test_only_the_secret_of_a_public_key_opens_what_is_sealed_to_it() -> None:
    token = make(SecretType.GROUP).text
    mine, other = make(SecretType.API), make(SecretType.API)
    sealed = sealing.seal_to(sealing.public_key(mine), token)
    assert token.encode() not in sealed
    assert sealing.seal_to(sealing.public_key(mine), token) != sealed
    assert sealing.unseal(sealed, mine) == token
    with pytest.raises(InvalidToken):
        sealing.unseal(sealed, other)
