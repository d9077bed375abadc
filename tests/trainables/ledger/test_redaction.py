"""Redaction: what is a credential is taken out, what only looks like one stays."""

import time

import pytest

from trainables.ledger.redaction import HIDDEN, redact, redact_argument

SECRETS = [
    ("s3://AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+key@bucket/prefix", "wJalrXUtnFEMI/K7MDENG"),
    ("https://user:pass@word@host/path", "pass"),
    ("https://ghp0123456789@github.com/a/b", "ghp0123456789"),
    ("s3://bucket/p?access_key=abc&region=us-east-1", "abc"),
    ("s3://bucket/p?region=x&secret_key=a%2Fb", "a%2Fb"),
    ("s3://bucket/p?session_token=t", "=t"),
    ("https://host/?password=x1", "x1"),
    ("https://host/?X-Amz-Signature=deadbeef&X-Amz-Credential=me", "deadbeef"),
    ("aws_secret_access_key=wJalrXUtnFEMI", "wJalrXUtnFEMI"),
    ("Token is hf_abcdefghijklmnopqrstuvwxyz012345", "hf_abcdef"),
    ("key AKIAIOSFODNN7EXAMPLE is unknown", "AKIAIOSFODNN7EXAMPLE"),
    ("{'secret_key': 'short'}", "short"),
    ('{"session_token": "abc def"}', "abc def"),
    ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
]
HARMLESS = [
    "s3://bucket/prefix?region=us-east-1&endpoint_override=127.0.0.1:9000&scheme=http",
    "hub HuggingFaceTB/SmolLM2-135M-Instruct at 12ab (fingerprint hub:a/b@12ab)",
    "task_a_tokens_seen=1234567890 tokens_per_second=123456789",
    "eos_token='</s>', the tokenizer has no token: choose another",
    "phase_b.lr=7e-05 search.seed=[0,1,2] storage=results/demo",
    "AttributeError: hf_hub_download of transformers.tokenization_utils",
    'File "/home/a@b/x.py", line 3, in step',
    "CUDA out of memory. Tried to allocate 2.00 GiB",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_credential_is_taken_out(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert HIDDEN in redact(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redact(text) == text


def test_what_is_not_secret_of_a_location_stays() -> None:
    location = "s3://me:mine@bucket/prefix?region=us-east-1&secret_key=abc&scheme=http"
    expected = f"s3://{HIDDEN}@bucket/prefix?region=us-east-1&secret_key={HIDDEN}&scheme=http"
    assert redact(location) == expected


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "my_password", "SOME_API_KEY"])
def test_the_value_of_a_secret_variable_is_taken_out_however_it_is_spelled(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "plain/and+odd value")
    assert redact("got plain/and+odd value") == f"got {HIDDEN}"
    assert redact("at plain%2Fand%2Bodd%20value!") == f"at {HIDDEN}!"


def test_short_values_and_other_variables_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    monkeypatch.setenv("SOME_DIRECTORY", "/data/results")
    assert redact("abc in /data/results") == "abc in /data/results"


@pytest.mark.parametrize("argument", ["token=abc", "--password=x", "model.token=abc", "a.secret_key=b"])
def test_an_argument_that_sets_a_secret_field_loses_its_value(argument: str) -> None:
    assert redact_argument(argument) == f"{argument.partition('=')[0]}={HIDDEN}"


def test_redacting_twice_changes_nothing() -> None:
    for text, _ in SECRETS:
        assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text", ["://" * 50_000, "token_" * 30_000, "a-" * 80_000, "://a:" + "b" * 200_000, "?" * 100_000]
)
def test_a_long_text_takes_no_long_time(text: str) -> None:
    began = time.monotonic()
    redact(text)
    assert time.monotonic() - began < 5
