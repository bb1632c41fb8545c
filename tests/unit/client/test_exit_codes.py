"""The sentence about the exit code of a failed job."""

import pytest

from leruli.jobs.exit_codes import explain


def reason(code):
    return f"its command ended with exit code {code}"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (126, "no execute permission"),
        (127, "not in the image"),
        (134, "SIGABRT"),
        (137, "too much memory"),
        (139, "segmentation fault"),
        (143, "SIGTERM"),
        (130, "the signal SIGINT"),
        (152, "the signal SIGXCPU"),
    ],
)
def test_a_common_code_is_explained_with_the_file_to_read(code, said):
    sentence = explain("failed", reason(code))
    assert sentence.startswith(f"Exit code {code} means ")
    assert said in sentence
    assert "joberr.txt" in sentence
    assert explain("failed", reason(code), code) == sentence


@pytest.mark.parametrize("code", [1, 3, 128, 255])
def test_a_code_of_the_program_is_not_interpreted(code):
    assert "is the program's own" in explain("failed", reason(code))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("completed", None),
        ("running", None),
        ("cancelled", reason(143)),
        ("failed", "killed: used more than 100 MB"),
        ("failed", "time limit of 60 s reached; output up to then was uploaded"),
    ],
)
def test_other_reasons_need_no_explanation(state, why):
    assert explain(state, why, 137) is None
