import json

from leruli.errors import LeruliError
from leruli.redaction import redact
from leruli.terminal.output import Output, printable


def test_typed_secrets_are_recognised_by_their_form():
    for kind in "agcn":
        secret = f"lq{kind}-abcdefghij-abcdefghijklmnopqrstuvwxyz-2345672"
        assert redact(f"bucket code-{secret}: gone") == "bucket code-[hidden]: gone"


def test_secrets_of_the_environment_are_known_by_value(monkeypatch):
    monkeypatch.setenv("LERULI_S3_SECRET", "minioadmin")
    assert redact("denied for minioadmin") == "denied for [hidden]"
    assert "minioadmin" not in str(LeruliError("denied for minioadmin"))
    monkeypatch.setenv("LERULI_S3_SECRET", "a")
    assert redact("a banana") == "a banana"


def test_a_secret_is_recognised_within_other_text():
    secret = "lqa-abcdefghij-abcdefghijklmnopqrstuvwxyz-2345672"
    assert redact(f"x_{secret}") == "x_[hidden]"
    assert redact(secret.upper()) == "[hidden]"
    # As in the suggestion of another image name.
    assert redact(f"psi4:{secret.replace('-', '_')}") == "psi4:[hidden]"


def test_the_access_key_is_hidden_as_the_secret_key_is(monkeypatch):
    monkeypatch.setenv("LERULI_S3_ACCESS", "AKIAEXAMPLE")
    assert redact("no such bucket AKIAEXAMPLE") == "no such bucket [hidden]"


def test_printable_escapes_control_characters():
    assert printable("a\x1b[2Jb\n\tü") == "a\\x1b[2Jb\n\tü"
    assert printable("caf\udce9") == "caf\\udce9"


def test_json_errors_are_documents(capsys):
    Output(as_json=True).error("It failed.", 6)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"error": {"message": "It failed.", "exit_code": 6}}
    assert shown.err == "Error: It failed.\n"


def test_quiet_keeps_results_and_errors_only(capsys):
    out = Output(quiet=True)
    out.note("a remark")
    out.result("42", {})
    out.error("It failed.", 1)
    assert capsys.readouterr() == ("42\n", "Error: It failed.\n")
