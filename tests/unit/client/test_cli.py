import importlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import leruli
from leruli import cli
from leruli.cli import run
from leruli.commands import group
from leruli.commands._image_argument import whole_request

CLI = Path(__file__).parents[3] / "cli"
JOB = "01a23272-60c0-7000-8000-0123456789ab"
SECRET = "lqa-abcdefghij-abcdefghijklmnopqrstuvwxyz-2345672"


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"leruli {leruli.__version__}\n"
    declared = re.search(r'^version = "(.+)"$', (CLI / "pyproject.toml").read_text(), re.M)
    assert declared is not None
    assert declared[1] == leruli.__version__


def test_every_verb_and_its_second_name_has_help(capsys):
    verbs = ["submit", "status", "get", "cancel", "purge", "prune", "publish-code", "list-codes"]
    for verb in [*(f"task-{name}" for name in verbs), "publish-code", "list-codes"]:
        assert run([verb, "--help"]) == 0
        assert "--json" in capsys.readouterr().out


def test_missing_settings_are_named(capsys):
    assert run([]) == 3
    shown = capsys.readouterr()
    assert "task-submit" in shown.out
    assert shown.err.count("# missing") == 5
    assert run(["task-status", "some-job"]) == 3
    shown = capsys.readouterr()
    assert "LERULI_BASEURL, LERULI_API_SECRET are not set" in shown.err
    assert shown.err.count("# missing") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["task-status", "job", SECRET],
        ["task-submit", "--cores", SECRET, "psi4", "1.5", "psi4"],
        ["task-submit", f"--{SECRET}", "psi4", "1.5", "psi4"],
        [SECRET],
    ],
)
def test_usage_errors_echo_no_secret(capsys, arguments):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert "Error:" in shown.err
    assert SECRET not in shown.out + shown.err


def test_options_of_the_command_need_two_dashes(capsys):
    assert run(["task-submit", "psi4", "1.5", "psi4", "-n", "4"]) == 2
    assert "put -- before it" in capsys.readouterr().err


def test_a_defect_is_a_sentence_and_a_traceback_on_demand(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LERULI_BASEURL", "http://127.0.0.1:9")
    monkeypatch.setenv("LERULI_API_SECRET", "a-secret-of-ours")
    monkeypatch.chdir(tmp_path)

    def broken(self, jobid):
        raise RuntimeError("defect about a-secret-of-ours")

    monkeypatch.setattr("leruli.service.queue_client.QueueClient.status", broken)
    assert run(["task-status", JOB]) == 1
    shown = capsys.readouterr()
    assert "LERULI_DEBUG=1" in shown.err
    assert "Traceback" not in shown.err

    monkeypatch.setenv("LERULI_DEBUG", "1")
    assert run(["task-status", JOB]) == 1
    both = shown.err + capsys.readouterr().err
    assert "Traceback" in both
    assert "a-secret-of-ours" not in both


def test_ctrl_c(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LERULI_BASEURL", "http://127.0.0.1:9")
    monkeypatch.setenv("LERULI_API_SECRET", "x")
    monkeypatch.chdir(tmp_path)

    def interrupted(self, jobid):
        raise KeyboardInterrupt

    monkeypatch.setattr("leruli.service.queue_client.QueueClient.status", interrupted)
    assert run(["task-status", JOB]) == 130
    assert capsys.readouterr().err == "Error: Interrupted. Nothing was changed.\n"


def in_a_new_process(code):
    """Run code in a new process; return the last line that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}"],
        env={"PYTHONPATH": str(CLI)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_help_imports_none_of_the_heavy_libraries():
    started = time.monotonic()
    imported = in_a_new_process(
        "from leruli.cli import run; run(['--help']);"
        "print({'minio', 'rich', 'urllib3'} & set(sys.modules))"
    )
    assert imported == "set()"
    assert time.monotonic() - started < 5


def test_a_verb_is_imported_when_it_is_run():
    imported = in_a_new_process(
        "from leruli.cli import run; run(['task-status', '--help']);"
        "print(sorted(name for name in sys.modules if name.startswith('leruli.commands.task_')),"
        " {'tarfile', 'leruli.commands.group'} & set(sys.modules))"
    )
    assert imported == "['leruli.commands.task_status'] set()"


def test_help_imports_no_command():
    imported = in_a_new_process(
        "from leruli.cli import run; run(['--help']); run(['group', '--help']);"
        "print(sorted(name for name in sys.modules if name.startswith('leruli.commands.')))"
    )
    assert imported == "['leruli.commands._lazy', 'leruli.commands.group']"


@pytest.mark.parametrize(
    ("package", "lines"),
    [("leruli.commands", cli._HELP_LINES), ("leruli.commands.group", group._HELP_LINES)],
)
def test_the_help_line_of_a_command_begins_its_own_help(package, lines):
    for name, line in lines.items():
        module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
        own = " ".join((module.command.help or "").split())
        # A line may be shorter than the sentence: it has to fit beside the name.
        assert own.split()[:4] == line.split()[:4], name


def test_libraries_for_encryption_are_imported_at_the_first_call():
    heavy = "len({'argon2', 'cffi', 'Crypto'} & set(sys.modules))"
    imported = in_a_new_process(
        f"import leruli.storage.store; before = {heavy};"
        "from minio.minioadmin import encrypt; sealed = encrypt(b'text', 'password');"
        # A later import gets the module itself.
        "import minio.crypto as real;"
        f"print(before, len(sealed) > 4, {heavy}, real.encrypt.__module__, real.encrypt is encrypt)"
    )
    assert imported == "0 True 3 minio.crypto False"


def test_the_module_has_the_names_of_the_published_client():
    for name in ("submit", "submit_many", "status", "get", "cancel", "publish_code", "list_codes"):
        assert callable(getattr(leruli, f"task_{name}"))
    assert callable(leruli.task_prune)
    assert issubclass(leruli.NotFoundError, ValueError)
    with pytest.raises(AttributeError):
        _ = leruli.task_nonsense


def test_a_pattern_that_the_shell_expanded_is_recognised(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("u-1", "u-2", "u-3"):
        (tmp_path / name).mkdir()
    assert run(["task-submit", "--batch", "u-1", "u-2", "u-3", "xtb", "6.5.1", "ls"]) == 2
    assert "'u-2' is a folder, not an image. Put the pattern in quotes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["task-statu"], "task-status"),
        (["submit"], "task-submit"),
        (["help"], "leruli --help"),
        (["nodes"], "group nodes"),
        (["group", "activty"], "activity"),
        (["task-list", "--state", "runing"], "running"),
        (["task-list", "--state", "pending"], "received"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(capsys, typed, meant):
    assert run(typed) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_a_word_like_no_command_is_refused_without_a_suggestion(capsys):
    assert run(["qqqq"]) == 2
    shown = capsys.readouterr().err
    assert "There is no command 'qqqq'. `leruli --help` lists all." in shown


@pytest.mark.parametrize(
    ("typed", "absent"),
    [
        (["psi4"], "VERSION"),
        (["psi4", "1.5"], "COMMAND..."),
        (["psi4:1.5"], "COMMAND..."),
        (["psi4:"], "VERSION"),
    ],
)
def test_a_submission_needs_a_version_and_a_command(capsys, typed, absent):
    assert run(["task-submit", *typed]) == 2
    assert f"Missing argument '{absent}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "request_"),
    [
        (("psi4:1.5", "psi4", ("input.dat",)), ("psi4", "1.5", ("psi4", "input.dat"))),
        (("psi4:1.5", "psi4", ()), ("psi4", "1.5", ("psi4",))),
        (("psi4", "1.5", ("psi4", "a:b")), ("psi4", "1.5", ("psi4", "a:b"))),
    ],
)
def test_an_image_is_one_word_or_two(typed, request_):
    assert whole_request(*typed) == request_
