"""The operator's commands as processes of their own."""

from __future__ import annotations

import asyncio
import json
import traceback
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from click.testing import CliRunner
from pydantic import SecretStr
from service_world import PostgresOfTest, leruli_queue, running_service

from leruli_queue.access.secrets import SecretType, make
from leruli_queue.commands import serve
from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool, connect


async def test_a_group_is_made_and_its_secrets_are_shown_once(
    settings: Settings, pool: Pool, service: httpx.AsyncClient
) -> None:
    database = settings.database_url.get_secret_value()
    made = await leruli_queue("group-create", "chemistry", "--json", database=database)
    assert made.returncode == 0, made.stderr
    group = json.loads(made.stdout)
    token = await service.post("/v22_1/group-token", json={"secret": group["admin_secret"]})
    assert token.json() == group["group_token"]

    again = await leruli_queue("group-create", "chemistry", database=database)
    assert again.returncode == 1
    assert again.stderr == (
        "leruli-queue: A group named 'chemistry' exists already. Choose another name.\n"
    )
    shown = await leruli_queue("group-create", "physics", "--admin", "grace", database=database)
    assert "API secret of grace (admin)  lqa-" in shown.stdout
    # The database holds none of the secrets.
    dump = ""
    for table in ("groups", "users"):
        dump += str(await pool.fetch(f"SELECT * FROM {table}"))  # noqa: S608
    for secret in (group["admin_secret"], group["group_token"]):
        assert secret not in dump
        assert secret.split("-")[2] not in dump


async def test_an_empty_database_is_migrated_on_the_way(empty_database_url: str) -> None:
    made = await leruli_queue("group-create", "chemistry", "--json", database=empty_database_url)
    assert made.returncode == 0, made.stderr
    # The log of the migrations is not in the result.
    assert json.loads(made.stdout)["name"] == "chemistry"
    assert "schema migrated" in made.stderr
    current = await leruli_queue("migrate", database=empty_database_url)
    assert current.stdout == "the schema is up to date\n"


async def test_missing_settings_are_named_with_exit_code_3() -> None:
    for command in ("serve", "dispatch", "migrate"):
        done = await leruli_queue(command, database=None)
        assert done.returncode == 3
        assert "LERULI_QUEUE_DATABASE_URL: it is not set" in done.stderr
        assert "Traceback" not in done.stderr
    wrong = await leruli_queue("migrate", database="postgresql://u:hunter2@/x?host=/nowhere")
    assert wrong.returncode == 1
    assert "PostgreSQL" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert "hunter2" not in wrong.stderr
    unknown = await leruli_queue("nonsense", database=None)
    assert unknown.returncode == 2


async def test_a_service_waits_for_its_database(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    settings = settings.model_copy(update={"database_url": SecretStr(own_postgres.url)})
    own_postgres.part.stop()

    async def start_later() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(own_postgres.start)

    starting = asyncio.create_task(start_later())
    async with running_service(settings) as service:
        assert (await service.get("/readyz")).status_code == 200
    await starting


async def test_several_services_start_at_once_on_an_empty_database(
    settings: Settings, empty_database_url: str
) -> None:
    settings = settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    async with (
        running_service(settings) as first,
        running_service(settings) as second,
    ):
        for service in (first, second):
            assert (await service.get("/readyz")).status_code == 200


_MISTYPED = (
    "postgresql://leruli:{0}",
    "leruli:{0}@127.0.0.1:9/db",
    "postgresql://leruli:x/{0}@127.0.0.1:9/db",
    "postgresql://leruli@127.0.0.1:{0}/db",
    "postgresql://{0}:x@/postgres?host={1}",
    "postgresql://leruli:{2}@/{0}?host={1}",
    "postgresql://leruli:{2}@/postgres?host={1}&pasword={0}",
)


@pytest.mark.parametrize("address", _MISTYPED)
async def test_a_mistyped_address_of_the_database_is_not_quoted(
    server_url: str, address: str
) -> None:
    parts = urlsplit(server_url)
    host = parse_qs(parts.query)["host"][0]
    wrong = address.format("f00dcafef00dcafe", host, parts.password)
    with pytest.raises(SetupError, match=r"^PostgreSQL cannot be used: ") as refusal:
        await connect(Settings(database_url=wrong))
    assert "f00d" not in "".join(traceback.format_exception(refusal.value))


async def test_a_secret_as_an_argument_is_not_repeated(server_url: str) -> None:
    secret = make(SecretType.API)
    for words in ([secret.text], ["migrate", secret.text], ["group-disable", secret.text]):
        done = await leruli_queue(*words, database=server_url)
        assert done.returncode in (1, 2)
        assert secret.text not in done.stderr + done.stdout
    made = await leruli_queue("group-create", secret.text, database=server_url)
    assert made.returncode == 1
    assert made.stderr == (
        "leruli-queue: This cannot be the name of a group: it holds an API secret; take it out.\n"
    )


@pytest.mark.parametrize("host", ["::", "10.0.0.1", "queue.example.org"])
async def test_plain_http_to_other_machines_needs_a_setting(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, host: str
) -> None:
    """D18: `serve` accepted secrets by plain http from other machines without a warning."""
    started: list[str] = []
    monkeypatch.setattr(uvicorn, "run", lambda *_, host, **__: started.append(host))
    for allowed in (False, True):
        changed = settings.model_copy(update={"listen_host": host, "allow_plain_http": allowed})
        monkeypatch.setattr(serve, "load_settings", lambda changed=changed: changed)
        done = CliRunner().invoke(serve.command)
        assert isinstance(done.exception, SetupError) is not allowed
    assert started == [host]
    changed = settings.model_copy(update={"listen_host": "127.0.0.1"})
    monkeypatch.setattr(serve, "load_settings", lambda: changed)
    assert CliRunner().invoke(serve.command).exception is None
    assert started == [host, "127.0.0.1"]
