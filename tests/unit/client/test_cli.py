import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import leruli
from leruli.cli import run

CLI = Path(__file__).parents[3] / "cli"
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


def test_without_settings_it_says_what_to_set(capsys):
    assert run([]) == 3
    shown = capsys.readouterr()
    assert "task-submit" in shown.out
    assert shown.err.count("# missing") == 4
    assert run(["task-status", "some-job"]) == 3
    shown = capsys.readouterr()
    assert "LERULI_API_SECRET is not set" in shown.err
    assert shown.err.count("# missing") == 1


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


def test_a_defect_is_told_in_a_sentence_and_with_a_traceback_on_demand(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("LERULI_API_SECRET", "a-secret-of-ours")
    monkeypatch.chdir(tmp_path)

    def broken(self, jobid):
        raise RuntimeError("defect about a-secret-of-ours")

    monkeypatch.setattr("leruli.api.Service.status", broken)
    assert run(["task-status", "some-job"]) == 1
    shown = capsys.readouterr()
    assert "LERULI_DEBUG=1" in shown.err
    assert "Traceback" not in shown.err

    monkeypatch.setenv("LERULI_DEBUG", "1")
    assert run(["task-status", "some-job"]) == 1
    both = shown.err + capsys.readouterr().err
    assert "Traceback" in both
    assert "a-secret-of-ours" not in both


def test_ctrl_c(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LERULI_API_SECRET", "x")
    monkeypatch.chdir(tmp_path)

    def interrupted(self, jobid):
        raise KeyboardInterrupt

    monkeypatch.setattr("leruli.api.Service.status", interrupted)
    assert run(["task-status", "some-job"]) == 130
    assert capsys.readouterr().err == "Error: Interrupted. Nothing was changed.\n"


def test_help_imports_none_of_the_heavy_libraries():
    code = (
        "import sys; from leruli.cli import run; run(['--help']);"
        "print({'minio', 'httpx', 'rich', 'urllib3'} & set(sys.modules))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(CLI)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("set()\n")
    assert time.monotonic() - started < 5


def test_the_module_offers_what_the_published_one_did():
    for name in ("submit", "submit_many", "status", "get", "cancel", "publish_code", "list_codes"):
        assert callable(getattr(leruli, f"task_{name}"))
    assert callable(leruli.task_prune)
    assert issubclass(leruli.NotFoundError, ValueError)
    with pytest.raises(AttributeError):
        _ = leruli.task_nonsense


def test_a_pattern_that_the_shell_replaced_is_recognised(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("u-1", "u-2", "u-3"):
        (tmp_path / name).mkdir()
    assert run(["task-submit", "--batch", "u-1", "u-2", "u-3", "xtb", "6.5.1", "ls"]) == 2
    assert "'u-2' is a folder, not an image. Put the pattern in quotes" in capsys.readouterr().err
