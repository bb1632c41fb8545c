"""The sentences after a batch, and the output that --quiet omits."""

import json
import re

from batch_world import set_states, submitting


def test_a_folder_with_a_fault_gets_no_advice_to_rerun(leruli, cases):
    """D16: "run the same command again" was printed where that fails again."""
    (cases / "case-003" / "joblog.txt").write_text("a reserved name")
    done = leruli(*submitting(pattern="case-00*"))
    assert done.returncode == 1
    assert "1 failed: mend these folders first" in done.stdout
    assert "run the same command again" not in done.stdout
    assert "The folder was not submitted" in done.stderr
    assert "Nothing was submitted" not in done.stderr


def test_a_folder_whose_request_was_lost_gets_the_advice_to_rerun(leruli, cases, service):
    service.faults.append((500, {}))
    done = leruli(*submitting(pattern="case-00*"), LERULI_RETRY_SECONDS="0")
    assert done.returncode == 1
    assert "10 failed: run the same command again for these" in done.stdout


def test_quiet_prints_results_and_errors_only(real, queue, group, cases):
    pattern = "case-00*"
    for verb, *words in (submitting(pattern=pattern), ["task-cancel", "--batch", pattern]):
        done = real(verb, "--quiet", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = real("task-cancel", "--quiet", cwd=cases / "case-001")
    assert done.stdout.startswith("cancelled")
    set_states(queue, group, "completed", sorted(cases.glob(pattern)))
    done = real("task-get", "--quiet", "--batch", pattern)
    assert (done.stdout, done.stderr) == ("", "")
    listed = json.loads(real("task-cancel", "--quiet", "--json", "--batch", pattern).stdout)
    assert len(listed["skipped"]) == 10


def test_sentences_about_one_are_in_the_singular(real, queue, group, store, cases):
    """The client said "1 folders" and "1 files"."""
    folder = cases / "case-001"
    told = []

    def run(*arguments, cwd=cases):
        done = real(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout + done.stderr)

    of_one = ("--batch", folder.name)
    run(*submitting(pattern=folder.name))
    run(*submitting(pattern=folder.name))
    run("task-status", *of_one)
    set_states(queue, group, "completed", [folder])
    store.put((folder / "leruli.bucket").read_text().strip(), "output.dat", b"E")
    run("task-get", *of_one)
    run("task-get", "--with-input", cwd=folder)
    run("task-purge", *of_one)
    (folder / "leruli.job").unlink()
    run(*submitting(pattern=folder.name))
    run("task-cancel", *of_one)
    run("task-purge", cwd=folder)
    everything = "\n".join(told)
    for expected in ("1 folder:", "of 1 folder.", "(1 file, 1 byte)", "Input: 1 file", "1 object "):
        assert expected in everything
    assert re.findall(r"\b1 \w+s\b(?<!was)(?<!has)(?<!is)", everything) == []
