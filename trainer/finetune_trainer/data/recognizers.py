"""What secrets and personal data look like: how each kind is found in a text, and what a text must have for that.

Used by `sensitive`. Whoever is warned of a digest or a date stops reading warnings, so a kind is here only if its form,
a check digit or a register tells it from everything else:

- Secrets by bc-detect-secrets' detectors of tokens that have a form of their own, and by the forms of more issuers. Its
  detectors by entropy or by a keyword take digests, ids and prose for secrets, and are left out.
- Addresses, numbers and cards by how they are written; publicsuffixlist, phonenumbers and python-stdnum say which can
  exist. presidio-analyzer does no more without a model, and imports spaCy, which imports torch wherever it finds it.

The libraries are imported when a row hints at what they know.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, partial
from importlib import import_module
from typing import Any

Match = re.Match[str]
Patterns = Callable[[], Iterable[re.Pattern[str]]]


class View(IntEnum):
    """How a row's line is looked at: as it is, in lower case, or with 0 for each digit and A for each capital."""

    PLAIN = 0
    LOWER = 1
    SHAPE = 2


@dataclass(frozen=True)
class Recognizer:
    """One kind, and its name in the plural: a match of one of the patterns that is `real`.

    Every match has one of `hints` in it and, if there are any, one of `beside`, in a row's line as `view` has it.
    """

    kind: str
    name: str
    patterns: Patterns
    hints: tuple[bytes, ...]
    beside: tuple[bytes, ...] = ()
    view: View = View.PLAIN
    real: Callable[[Match], bool] = bool

    def found(self, text: str) -> bool:
        """Whether it finds one in this text."""
        return any(self.real(match) for pattern in self.patterns() for match in pattern.finditer(text))


@cache
def _detector(module: str, name: str) -> Any:
    return getattr(import_module(f"detect_secrets.plugins.{module}"), name)()


def _detected(module: str, name: str, patterns: slice = slice(None)) -> Patterns:
    """The patterns of a detector of bc-detect-secrets."""
    return lambda: list(_detector(module, name).denylist)[patterns]


def _like(pattern: str) -> Patterns:
    compiled = (re.compile(pattern, re.ASCII),)
    return lambda: compiled


def _web_token(match: Match) -> bool:
    return bool(_detector("jwt", "JwtTokenDetector").is_formally_valid(match.group()))


# What examples of URLs have in place of a password, and of a host.
PLACEHOLDERS = frozenset(
    ["password", "passwd", "pass", "pwd", "pw", "secret", "changeme", "token", "key", "user", "username", "xxx", "xxxx"]
)
NOWHERE = re.compile(r"(?:^|\.)(?:example(?:\.\w+)?|test|invalid|localhost|host|hostname|127\.0\.0\.1)$", re.ASCII)


def _password(match: Match) -> bool:
    password, host = match.group("password").lower(), match.group("host").lower()
    return password.strip("_-") not in PLACEHOLDERS and password[0] not in "{<%$*." and not NOWHERE.search(host)


# An address behind this is a URL's: its user, its password and its host.
URL = re.compile(r"://\S*\Z")
LONGEST_URL = 200
LOCAL = re.compile(r"[\w.%+-]+\Z", re.ASCII)
NOBODY = frozenset(("git", "noreply", "no-reply"))


@cache
def _domains() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=False)


def _address(match: Match) -> bool:
    """Whether a match, from the last character before the @ on, is of a person's address in a domain that can exist."""
    host, before = match.group("host").lower(), match.string[max(0, match.start() - LONGEST_URL) : match.start() + 1]
    local = LOCAL.search(before)
    if local is None or local.group().lower() in NOBODY or NOWHERE.search(host) or URL.search(before):
        return False
    return _domains().privatesuffix(host) is not None


def _phone(match: Match, region: str | None) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(match.group(), region)))
    except phonenumbers.NumberParseException:
        return False


def _valid(match: Match, module: str) -> bool:
    """Whether python-stdnum's module takes the match for valid."""
    return bool(import_module(f"stdnum.{module}").is_valid(match.group()))


# Visa, Mastercard, American Express, Discover and JCB, whose numbers have 15 or 16 digits.
ISSUED = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|6(?:011|5\d\d|4[4-9]\d)\d{12}"
    r"|35\d{14}"
)
# One in forty numbers of 16 digits would pass for a card's, so one without groups has to be called a card.
CARD = re.compile(r"card|visa|amex|american express|karte|carte|tarjeta|cvv|cvc", re.IGNORECASE)


def _card(match: Match) -> bool:
    number = re.sub("[ -]", "", match.group())
    told = number != match.group() or CARD.search(match.string) is not None
    return told and ISSUED.fullmatch(number) is not None and bool(import_module("stdnum.luhn").is_valid(number))


SECRETS = (
    Recognizer(
        "privateKeys",
        "private keys",
        _detected("private_key", "PrivateKeyDetector"),
        (b"PRIVATE KEY", b"PuTTY-User-Key-File-2:"),
    ),
    Recognizer(
        "awsKeys",
        "AWS keys",
        _detected("aws", "AWSKeyDetector", slice(1)),
        (b"A3T", b"ABIA", b"ACCA", b"AKIA", b"ASIA"),
    ),
    Recognizer(
        "awsKeys",
        "AWS keys",
        _detected("aws", "AWSKeyDetector", slice(1, None)),
        (b"aws",),
        beside=(b"key", b"pw", b"pass", b"token"),
        view=View.LOWER,
    ),
    Recognizer(
        "githubTokens",
        "GitHub tokens",
        _detected("github_token", "GitHubTokenDetector"),
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
    ),
    Recognizer("githubTokens", "GitHub tokens", _like(r"github_pat_\w{82}"), (b"github_pat_",)),
    Recognizer("gitlabTokens", "GitLab tokens", _like(r"glpat-[\w-]{20}"), (b"glpat-",)),
    Recognizer(
        "slackTokens",
        "Slack tokens",
        _detected("slack", "SlackDetector"),
        (b"xox", b"hooks.slack.com"),
        view=View.LOWER,
    ),
    Recognizer("stripeKeys", "Stripe keys", _detected("stripe", "StripeDetector"), (b"rk_live_", b"sk_live_")),
    Recognizer("squareSecrets", "Square secrets", _detected("square_oauth", "SquareOAuthDetector"), (b"sq0csp-",)),
    Recognizer("sendGridKeys", "SendGrid keys", _like(r"SG\.[\w-]{22}\.[\w-]{43}(?![\w-])"), (b"SG.",)),
    Recognizer("twilioKeys", "Twilio keys", _like(r"(?<![^\W_])(?:AC|SK)[0-9a-f]{32}(?![^\W_])"), (b"AC", b"SK")),
    Recognizer("npmTokens", "npm tokens", _detected("npm", "NpmDetector"), (b"npm_", b"_authToken", b"NPM")),
    Recognizer("pypiTokens", "PyPI tokens", _like(r"pypi-AgEIcHlwaS5vcmc[\w-]{50,}"), (b"pypi-AgEIcHlwaS5vcmc",)),
    Recognizer("huggingFaceTokens", "Hugging Face tokens", _like(r"(?<!\w)hf_[A-Za-z]{34}(?!\w)"), (b"hf_",)),
    Recognizer("openAiKeys", "OpenAI keys", _like(r"sk-[\w-]{16,}T3BlbkFJ[\w-]{16,}"), (b"T3BlbkFJ",)),
    Recognizer("anthropicKeys", "Anthropic keys", _like(r"sk-ant-[\w-]{32,}"), (b"sk-ant-",)),
    Recognizer("googleKeys", "Google keys", _like(r"(?<![\w-])AIza[\w-]{35}(?![\w-])"), (b"AIza",)),
    Recognizer("jsonWebTokens", "JSON web tokens", _detected("jwt", "JwtTokenDetector"), (b"eyJ",), real=_web_token),
    Recognizer(
        "urlPasswords",
        "passwords in URLs",
        _like(r"://[^\s:/?#\[\]@\"'<>]+:(?P<password>[^\s:/?#\[\]@\"'<>]+)@(?P<host>[\w.-]+)"),
        (b"://",),
        beside=(b"@",),
        real=_password,
    ),
)

# How the numbers of states are written where that, with a check digit or a date, tells them from other numbers.
NATIONAL = (
    # The United States, Brazil, Italy, Finland, France, South Korea, China.
    ("us.ssn", r"\d{3}-\d\d-\d{4}", (b"000-00-0000",)),
    ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d", (b"000.000.000-00",)),
    ("it.codicefiscale", r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", (b"AAAAAA00A00A000A",)),
    ("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-Z]", (b"000000-000", b"000000+000", b"000000A000")),
    ("fr.nir", r"[12] \d\d \d\d \d\d \d{3} \d{3} \d\d", (b"0 00 00 00 000 000 00",)),
    ("kr.rrn", r"\d{6}-\d{7}", (b"000000-0000000",)),
    ("cn.ric", r"\d{17}[\dX]", (b"00000000000000000",)),
)
# What stands before and behind a number that is no part of something longer.
BEFORE, BEHIND = r"(?<![\w.+/=-])", r"(?![\w+/=-]|[.,]\w)"

PERSONAL = (
    Recognizer(
        "emailAddresses",
        "e-mail addresses",
        _like(r"[\w%+-]@(?P<host>(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24})(?![\w(\[-])"),
        (b"@",),
        real=_address,
    ),
    Recognizer(
        "phoneNumbers",
        "phone numbers",
        _like(r"\+(?<![\w.+]\+)[1-9](?:[ ()-]{0,2}\d){6,14}(?!\w|[.,]\d)"),
        (b"+0",),
        view=View.SHAPE,
        real=partial(_phone, region=None),
    ),
    # In North America; 555-01 is for books and films.
    Recognizer(
        "phoneNumbers",
        "phone numbers",
        _like(rf"{BEFORE}(?:\(\d{{3}}\) ?|\d{{3}}-)(?!555-01)\d{{3}}-\d{{4}}{BEHIND}"),
        (b"000-000-0000", b"(000) 000-0000", b"(000)000-0000"),
        view=View.SHAPE,
        real=partial(_phone, region="US"),
    ),
    Recognizer(
        "paymentCards",
        "payment card numbers",
        _like(
            rf"{BEFORE}(?:\d{{15,16}}|\d{{4}}(?:-\d{{4}}){{3}}|\d{{4}}(?: \d{{4}}){{3}}|\d{{4}}([ -])\d{{6}}\1\d{{5}})"
            rf"{BEHIND}"
        ),
        (b"0" * 15, b"0000-0000-0000-0000", b"0000 0000 0000 0000", b"0000-000000-00000", b"0000 000000 00000"),
        view=View.SHAPE,
        real=_card,
    ),
    Recognizer(
        "ibans",
        "IBANs",
        _like(r"(?<!\w)[A-Z]{2}\d\d(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)(?!\w)"),
        (b"AA00",),
        view=View.SHAPE,
        real=partial(_valid, module="iban"),
    ),
    *(
        Recognizer(
            "nationalIds",
            "national identity numbers",
            _like(f"{BEFORE}{pattern}{BEHIND}"),
            hints,
            view=View.SHAPE,
            real=partial(_valid, module=module),
        )
        for module, pattern, hints in NATIONAL
    ),
)
RECOGNIZERS = SECRETS + PERSONAL
