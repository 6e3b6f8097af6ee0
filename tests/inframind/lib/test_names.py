import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.names import RESERVED, check_name, skeleton


@pytest.mark.parametrize("name", ["summarizer-v1", "ab", "a1", "3d-net", "a" * 63, "ocr-v1"])
def test_good_names_pass_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a", "-ab", "ab-", "a--b", "Ab", "a_b", "a.b", "a b", "a" * 64, "ä-b", "a/b", "ab\n"],
)
def test_malformed_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        check_name(name)


@pytest.mark.parametrize("name", ["featured", "admin", "models", "adm1n", "rn0dels", "off-icial",
                                  "infra-mind", "inframlnd", "mode1"])  # fmt: skip
def test_reserved_words_and_their_look_alikes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="reserved"):
        check_name(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rn0del", "model"), ("summar1zer-v1", "summarizer-v1"), ("summarlzer-v1", "summarizer-v1"),
        ("vvhisper", "whisper"), ("sum-marizer-v1", "summarizer-v1"), ("re5net", "resnet"),
        ("c1assifier", "classifier"), ("classifier", "dassifier"),
    ],
)  # fmt: skip
def test_names_that_look_alike_share_a_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("summarizer-v1", "summarizer-v2"), ("net-v1", "net-v11"), ("net-6", "net-9"),
     ("summarizer-v1", "summarizer"), ("ocr-v1", "ocr-v1-2"), ("net-v0", "net-vo")],
)  # fmt: skip
def test_names_that_a_reader_tells_apart_do_not(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@given(st.from_regex(r"\A[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])\Z"))
def test_every_name_is_either_returned_or_refused(name: str) -> None:
    try:
        assert check_name(name) == name
    except ValueError:
        assert "--" in name or skeleton(name) in {skeleton(word) for word in RESERVED}
