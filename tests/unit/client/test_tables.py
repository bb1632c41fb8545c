"""Tables, listings by page, and the one output that prints a secret."""

import io
import json
import sys
import time

import pytest

from leruli.service.group import Page
from leruli.terminal.output import Output
from leruli.terminal.tables import Column
from leruli.times import moment_utc, parse_moment

SECRET = "lqa-abcdefghij-abcdefghijklmnopqrstuvwxyz-2345672"
COLUMNS = (Column("job", "jobid"), Column("cores", "cores", is_number=True), Column("why", "why"))


def entry(number, why=None):
    return {"jobid": f"{number:036}", "cores": number, "why": why}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown_on_terminal(monkeypatch, columns, entries):
    with monkeypatch.context() as patch:
        patch.setenv("COLUMNS", "60")
        patch.setattr(sys, "stdout", Terminal())
        Output().table("jobs", columns, entries)
        return sys.stdout.getvalue()


def test_without_a_terminal_a_table_is_lines_of_whole_cells(capsys):
    Output().table("jobs", COLUMNS, [entry(1, "a\tb\nc" + "x" * 300)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["job\tcores\twhy", f"{1:036}\t1\ta b c{'x' * 300}"]
    Output(quiet=True).table("jobs", COLUMNS, [entry(2)])
    assert capsys.readouterr().out == f"{2:036}\t2\t\n"


def test_on_a_terminal_nothing_is_cut_and_nothing_is_markup(monkeypatch):
    why = "[bold]killed[/] \x1b[2J " + "x" * 100 + "END"
    shown = shown_on_terminal(monkeypatch, COLUMNS, [entry(1234567, why)])
    assert "1,234,567" in shown
    assert "[bold]" in shown
    assert "\x1b[2J" not in shown
    together = "".join(shown.split())
    assert "END" in together
    assert "…" not in shown


def test_times_are_shown_in_the_zone_of_the_reader(monkeypatch):
    column = Column("at", "at", is_time=True)
    entries = [{"at": "2026-11-24T22:30:00+00:00"}, {"at": "no time"}]
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "UTC-5")  # POSIX: east of Greenwich
            time.tzset()
            shown = shown_on_terminal(monkeypatch, [column], entries)
    finally:
        time.tzset()
    assert "2026-11-25 03:30:00" in shown
    assert "no time" in shown


def test_a_listing_of_many_pages_is_one_document(capsys):
    pages = [Page([entry(1), entry(2)], "x"), Page([entry(3)], "y")]
    assert Output(as_json=True).listing("jobs", COLUMNS, pages) == "y"
    document = json.loads(capsys.readouterr().out)
    assert [job["cores"] for job in document["jobs"]] == [1, 2, 3]
    assert document["next"] == "y"
    assert Output(as_json=True).listing("jobs", COLUMNS, [Page([], None)]) is None
    assert json.loads(capsys.readouterr().out) == {"jobs": [], "next": None}


def test_a_page_is_printed_before_the_next_is_asked_for(capsys):
    def pages():
        yield Page([entry(1)], "x")
        assert f"{1:036}" in capsys.readouterr().out
        yield Page([entry(2)], None)

    Output(as_json=True).listing("jobs", COLUMNS, pages())
    capsys.readouterr()
    Output().listing("jobs", COLUMNS, pages())
    assert capsys.readouterr().out == f"{2:036}\t2\t\n"


def test_a_listing_that_breaks_off_is_still_a_document(capsys):
    def pages():
        yield Page([entry(1)], "x")
        raise KeyboardInterrupt

    out = Output(as_json=True)
    with pytest.raises(KeyboardInterrupt):
        out.listing("jobs", COLUMNS, pages())
    out.error("Interrupted.", 130)
    document = json.loads(capsys.readouterr().out)
    assert len(document["jobs"]) == 1
    assert document["error"] == {"message": "Interrupted.", "exit_code": 130}
    assert "next" not in document


def test_a_secret_is_printed_only_as_a_result(capsys):
    advice = f"Keep {SECRET} well."
    Output().secret("secret", SECRET, {"name": "ada"}, advice)
    assert capsys.readouterr() == (f"{SECRET}\n", "Keep [hidden] well.\n")
    Output(quiet=True).secret("secret", SECRET, {"name": "ada"}, advice)
    assert capsys.readouterr() == (f"{SECRET}\n", "")
    other = SECRET.replace("lqa", "lqc")
    Output(as_json=True).secret("secret", SECRET, {"name": other}, advice)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"name": "[hidden]", "secret": SECRET}
    assert shown.err == ""
    Output().table("users", [Column("name", "name")], [{"name": SECRET}])
    assert SECRET not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-24T08:30:00Z", "2026-11-24T08:30:00.000000+00:00"),
        ("2026-11-24T08:30+02:00", "2026-11-24T06:30:00.000000+00:00"),
    ],
)
def test_moments_with_a_zone(text, utc):
    assert moment_utc(text) == utc


def test_moments_without_a_zone_are_of_this_machine_and_ages_count_from_now():
    assert parse_moment("2026-11-24") == parse_moment("2026-11-24T00:00:00")
    difference = parse_moment(moment_utc("1h")) - parse_moment(moment_utc("2d"))
    assert abs(difference.total_seconds() - 47 * 3600) < 5


@pytest.mark.parametrize("text", ["", "yesterday", "7y", "2026-13-01", "999999w", "-1d"])
def test_invalid_moments(text):
    with pytest.raises(ValueError):  # noqa: PT011  # the caller has the sentence
        moment_utc(text)
