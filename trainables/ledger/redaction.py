"""Taking secrets out of text that is shown or kept: error messages, logs, recorded command lines."""

import os
import re
from urllib.parse import quote, quote_plus

HIDDEN = "***"
SHORTEST_VALUE = 8  # characters of an environment variable's value, or of one that text assigns to a name

SECRET_VARIABLE = re.compile(r"_KEY(_ID)?$|_TOKEN$|SECRET|PASSWORD|PASSWD", re.IGNORECASE)
_WORDS = (
    r"access_?key(?:_?id)?|secret(?:_?(?:access_?)?key)?|token|passw(?:or)?d|api_?key|private_?key|credential"
    r"|signature|webhook"
)
_NAME = rf"(?<![\w.-])(?:[\w.-]{{0,64}}[_.-])?(?:{_WORDS})"
SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
USER_INFORMATION = re.compile(
    # AWS keys contain `/`
    r"(?<=://)(?:[^\s/'\"@]{1,512}@)+|(?<=://)[^\s/'\"@:?#]{1,256}:[^\s'\"@?#]{1,512}@"
)
QUERY_PARAMETER = re.compile(rf"([?&;]\s*{_NAME}=)[^&;\s'\"#]+", re.IGNORECASE)
ASSIGNMENT = re.compile(rf"({_NAME}=)(['\"]?)[^\s'\"&,;)\]}}]{{{SHORTEST_VALUE},}}\2", re.IGNORECASE)
QUOTED_FIELD = re.compile(
    rf"(['\"](?:[\w.-]{{0,64}}[_.-])?(?:{_WORDS})['\"]\s*:\s*)(['\"])[^'\"\n]+\2", re.IGNORECASE
)
WEBHOOK = re.compile(r"(\bwebhook['\"]?\s*:\s*['\"]?)https?://[^\s'\",}]+", re.IGNORECASE)
BEARER = re.compile(r"(\bBearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
KNOWN_KEYS = re.compile(
    r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|hf_[A-Za-z0-9]{16,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,})\b"
)


def redact(text: str) -> str:
    """Return `text` without credentials.

    Taken out are the user part of a URI, values assigned to names such as `secret_key` or `session_token`,
    keys of AWS, Hugging Face and GitHub, and whatever a secret environment variable of this process holds.
    """
    for value in _secret_values():
        text = text.replace(value, HIDDEN)
    text = USER_INFORMATION.sub(f"{HIDDEN}@", text)
    text = QUERY_PARAMETER.sub(rf"\1{HIDDEN}", text)
    text = ASSIGNMENT.sub(rf"\1{HIDDEN}", text)
    text = WEBHOOK.sub(rf"\1{HIDDEN}", text)
    text = QUOTED_FIELD.sub(rf"\1\2{HIDDEN}\2", text)
    return KNOWN_KEYS.sub(HIDDEN, BEARER.sub(rf"\1{HIDDEN}", text))


def redact_argument(argument: str) -> str:
    """Return one argument of a command line without credentials; what sets a secret field goes whole."""
    name, separator, _ = argument.partition("=")
    if separator and SECRET_NAME.fullmatch(name.strip().lstrip("-")):
        return f"{name}={HIDDEN}"
    return redact(argument)


def _secret_values() -> list[str]:
    """Return the values of this process's secret variables, as they are and as URIs spell them, longest
    first.
    """
    values = {
        value
        for name, value in os.environ.items()
        if SECRET_VARIABLE.search(name) and len(value) >= SHORTEST_VALUE
    }
    spelled = values | {quote(value, safe="") for value in values} | {quote_plus(value) for value in values}
    return sorted(spelled, key=lambda value: (-len(value), value))
