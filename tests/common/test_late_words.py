"""Placeholders: filled only under their own nonce, and never so that a document comes to mean something else."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common.late_words import LateFacts, LateWord, LateWordInvalid, describe, fill, placeholder

NONCE, OTHER = "a" * 32, "b" * 32
TOKEN = "0123456789abcdefXYZ_-"


def facts(**changed: str) -> LateFacts:
    base = "https://[2001:db8::1]:8081"
    given_facts = {"base_url": base, "documents_url": f"{base}/d/{TOKEN}", "device_url": f"{base}/v", "token": TOKEN}
    return LateFacts(**{**given_facts, **changed})


def test_every_word_is_filled_wherever_it_stands() -> None:
    text = " ".join(placeholder(NONCE, word) for word in LateWord)
    filled = fill(text + text, NONCE, facts())
    assert NONCE not in filled
    for part in ("https ", "https://[2001:db8::1]:8081 ", "[2001:db8::1]:8081 ", f"/d/{TOKEN} ", TOKEN):
        assert filled.count(part) >= 2


def test_another_nonces_words_stay() -> None:
    foreign = placeholder(OTHER, LateWord.TOKEN)
    assert fill(f"{foreign} {placeholder(NONCE, LateWord.TOKEN)}", NONCE, facts()) == f"{foreign} {TOKEN}"
    assert fill(foreign, "", facts()) == foreign


def test_what_is_filled_in_is_not_filled_again() -> None:
    inner = placeholder(NONCE, LateWord.TOKEN)
    url = f"http://192.0.2.1/{inner}"
    assert fill(placeholder(NONCE, LateWord.DEVICE), NONCE, facts(device_url=url)) == url


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "http://x/",
        "http://",
        "http://x/'",
        'http://x/"',
        "http://x/ y",
        "http://x/\n",
        "http://x/$(id)",
        "http://x/`id`",
        "http://x/#f",
        "http://x/?q=1",
        "http://a@b",
        "http://x\\y",
        "javascript:x",
        "",
    ],
)
def test_urls_that_could_mean_more_are_refused(url: str) -> None:
    for field in ("base_url", "documents_url", "device_url"):
        with pytest.raises(LateWordInvalid):
            facts(**{field: url})


@pytest.mark.parametrize("token", ["", "short", "x" * 257, "a" * 16 + "'", "a" * 16 + "\n", "a" * 16 + " b"])
def test_tokens_that_could_mean_more_are_refused(token: str) -> None:
    with pytest.raises(LateWordInvalid) as caught:
        facts(token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("nonce", ["", "x" * 32, "a" * 31, "A" * 32, "a" * 32 + "\n"])
def test_a_nonce_is_32_hexadecimal_digits(nonce: str) -> None:
    with pytest.raises(LateWordInvalid):
        placeholder(nonce, LateWord.TOKEN)


def test_secrets_are_in_no_repr() -> None:
    assert TOKEN not in repr(facts())


def test_people_read_names_instead() -> None:
    assert describe(f"x={placeholder(NONCE, LateWord.TOKEN)}", NONCE) == "x=<token>"


@given(
    st.from_regex(r"https?://[a-z0-9.-]{1,20}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]{1,20}){0,3}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True),
)
@settings(deadline=None, max_examples=40)
def test_what_fills_in_means_itself_in_every_format(url: str, token: str) -> None:
    known = facts(base_url=url, device_url=url, documents_url=url, token=token)
    for word, value in ((LateWord.BASE_URL, url), (LateWord.TOKEN, token)):
        mark = placeholder(NONCE, word)
        assert shlex.split(fill(f"x '{mark}' {mark} # y", NONCE, known), comments=True) == ["x", value, value]
        assert json.loads(fill(json.dumps({"a": mark}), NONCE, known)) == {"a": value}
        assert yaml.safe_load(fill(f'a: "{mark}"', NONCE, known)) == {"a": value}
