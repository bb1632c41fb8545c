"""The manual's curl commands as printed, with only host and secret replaced."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from e2e_world import StackOfTest, read_exports

ROTATE = """curl -X POST "https://api.leruli.com/v22_1/group-rotate-compute-secret" \\
         -H "Accept: application/json" -H "Content-Type: application/json" \\
         -d '{"adminsecret":"ADMINSECRETHERE"}'"""

CREATE = """curl -X POST "https://api.leruli.com/v22_1/group-create-user" \\
         -H "Accept: application/json" -H "Content-Type: application/json" \\
         -d '{"adminsecret":"ADMINSECRETHERE","name":"USERNAME","admin":false}'"""

REVOKE = """curl -X POST "https://api.leruli.com/v22_1/group-revoke-user" \\
         -H "Accept: application/json" -H "Content-Type: application/json" \\
         -d '{"adminsecret":"string","name":"string"}'"""


@pytest.fixture
def admin_secret(stack: StackOfTest) -> str:
    return read_exports(stack.data / "admin.sh")["LERULI_ADMIN_SECRET"]


@pytest.fixture
def same_compute_secret(stack: StackOfTest) -> Iterator[None]:
    """Restore the compute secret, as a rotation would remove the node that other tests need."""
    [before] = stack.fetch("SELECT id, compute_key_id, compute_hash, compute_epoch FROM groups")
    yield
    stack.execute(
        f"UPDATE groups SET compute_key_id = '{before['compute_key_id']}',"  # noqa: S608
        f" compute_hash = '\\x{before['compute_hash'].hex()}',"
        f" compute_epoch = {before['compute_epoch']} WHERE id = {before['id']}"
    )


def curl(stack: StackOfTest, line: str) -> tuple[int, object]:
    """Run a line in a shell; return the status and the answer."""
    line = line.replace("https://api.leruli.com", stack.user["LERULI_BASEURL"])
    done = subprocess.run(
        ["bash", "-c", f"{line} -s -w '\\n%{{http_code}}'"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(answer)


def test_users_are_made_and_revoked_as_printed(stack: StackOfTest, admin_secret: str) -> None:
    create = CREATE.replace("ADMINSECRETHERE", admin_secret).replace("USERNAME", "curly")
    status, secret = curl(stack, create)
    assert status == 200
    assert stack.call("group-token", secret=secret).status_code == 200
    status, taken = curl(stack, create)
    assert status == 409
    assert "Choose another name" in str(taken)

    revoke = REVOKE.replace('"string"', f'"{admin_secret}"', 1).replace('"string"', '"curly"')
    status, _ = curl(stack, revoke)
    assert status == 200
    assert stack.call("group-token", secret=secret).status_code == 403
    status, gone = curl(stack, revoke)
    assert status == 404
    assert "was revoked at" in str(gone)


@pytest.mark.usefixtures("same_compute_secret")
def test_the_compute_secret_is_rotated_as_printed(stack: StackOfTest, admin_secret: str) -> None:
    status, secret = curl(stack, ROTATE.replace("ADMINSECRETHERE", admin_secret))
    assert status == 200
    assert str(secret).startswith("lqc-")


@pytest.mark.parametrize("line", [ROTATE, CREATE, REVOKE], ids=["rotate", "create", "revoke"])
def test_wrong_use_gets_a_sentence_and_the_right_code(
    stack: StackOfTest, admin_secret: str, line: str
) -> None:
    secret_field = '"string"' if line is REVOKE else '"ADMINSECRETHERE"'

    def with_secret(text: str) -> str:
        return line.replace(secret_field, text, 1)

    mistyped = admin_secret[:-1] + ("a" if admin_secret[-1] != "a" else "b")
    cases = [
        (line, 403, "does not have the form of a secret"),
        (with_secret(f'"{mistyped}"'), 403, "its checksum does not match"),
        (with_secret(f'"{stack.user["LERULI_API_SECRET"]}"'), 403, "of an admin"),
        (with_secret(f'"{stack.secrets["group_token"]}"'), 403, "it is a group token"),
        (with_secret("7"), 422, "Parameter adminsecret"),
        (line.replace('"adminsecret"', '"secret"'), 422, "Parameter adminsecret: it is missing"),
        (line.replace("-d '{", "-d '"), 422, "The body is not JSON"),
        (line.replace("application/json", "text/plain"), 422, "Content-Type: application/json"),
        (line.replace("-X POST", "-X PUT"), 405, "Method Not Allowed"),
        (line.replace("v22_1", "v22_2"), 404, "Not Found"),
    ]
    for wrong, expected, sentence in cases:
        status, answer = curl(stack, wrong)
        assert status == expected, (wrong, answer)
        assert sentence in str(answer), (wrong, answer)
        assert mistyped not in str(answer)


def test_the_last_admin_cannot_be_revoked_as_printed(stack: StackOfTest, admin_secret: str) -> None:
    revoke = REVOKE.replace('"string"', f'"{admin_secret}"', 1).replace('"string"', '"admin"')
    status, answer = curl(stack, revoke)
    assert status == 409
    assert "last admin" in str(answer)
