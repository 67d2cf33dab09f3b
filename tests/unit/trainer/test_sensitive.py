"""Secrets and personal data in rows: each kind is found, what only looks like it is not, and no value is repeated."""

import json
import subprocess
import sys
from typing import Any

import pytest
from finetune_trainer.data import examples, sensitive
from finetune_trainer.data.recognizers import RECOGNIZERS, Recognizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Put together here, so that nobody who searches the source for secrets stops at these.
LONG = "q7Zt3Kx9Lm2Rw8Vb4Yc6Nd1Pf5Hs0JgT"
SECRETS = {
    "awsKeys": [
        "AKIA" + "Q3K7ZT5WXN2RM4LB",
        "aws_secret_access_key = " + "wJalrXUtnFEMIK7MDENGbPxRfiCY" + "q3K7ZT5WXN2R",
    ],
    "privateKeys": ["-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA3Tz2mr7SZiAMfQyuvBjM9Oi\n-----END RSA"],
    "githubTokens": ["ghp_" + LONG + "ab3D", "github_pat_" + 2 * LONG + LONG[:20]],
    "gitlabTokens": ["glpat-" + LONG[:20]],
    "slackTokens": ["xoxb-" + "2345678901-" + "abcdefghij", "https://hooks.slack.com/services/" + "T0AB/B1CD/x2YZ"],
    "stripeKeys": ["sk_live_" + LONG[:24]],
    "squareSecrets": ["sq0csp-" + LONG + LONG[:11]],
    "sendGridKeys": ["SG." + LONG[:22] + "." + LONG + LONG[:11]],
    "twilioKeys": ["AC" + "0123456789abcdef" * 2],
    "npmTokens": ["npm_" + LONG + "ab3D"],
    "pypiTokens": ["pypi-AgEIcHlwaS5vcmc" + 2 * LONG],
    "huggingFaceTokens": ["hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"],
    "openAiKeys": ["sk-proj-" + LONG + "T3BlbkFJ" + LONG],
    "anthropicKeys": ["sk-ant-" + "api03-" + LONG + LONG],
    "googleKeys": ["AIza" + LONG + "ab3"],
    "jsonWebTokens": ["eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjMifQ." + "c2lnbmF0dXJl"],
    "urlPasswords": ["postgres://admin:" + "hunter2@db.shop.io:5432/orders"],
}
PERSONAL = {
    "emailAddresses": ["ask jane.doe@gmail.com", "mailto:j@uni-bonn.de", "<bob+news@mail.co.uk>"],
    "phoneNumbers": ["+44 20 7946 0018", "+4930901820", "call (212) 736-5000", "650-253-0000"],
    "paymentCards": ["4532 0151 1283 0366", "5425-2334-3010-9903", "my card is 4532015112830366", "3714 496353 98431"],
    "ibans": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "nationalIds": [
        "536-90-4399",
        "390.533.447-05",
        "RCCMNL83S18D969H",
        "131052-308T",
        "2 95 10 99 126 111 93",
        "971013-9019902",
        "360426199101010071",
    ],
}
FOUND = SECRETS | PERSONAL
ORDINARY = [
    "Whisk 2 eggs with 250 ml of milk (1-2 minutes), then bake for 35-40 min at 180 °C / 350 °F. Serves 4-6.",
    "On 2024-11-26 at 23:33:42 UTC, 1,234,567.89 rows; version 1.22.333-4, 10.0.0.1, port 8080, 50% + 3 = 53.",
    "The AWS key point of his laws was passed as a token; the ASIA office in LISK draws a key of 12.",
    "550e8400-e29b-41d4-a716-446655440000 and {6F9619FF-8B86-D011-B42D-00CF4FC964FF}",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 d41d8cd98f00b204e9800998ecf8427e",
    "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709 commit ef1826f, key 0x7fff5fbff8c0",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO"
    "9TXL0Y4OHwAAAABJRU5ErkJggg==",
    "@app.get('/users/{id}')\ndef user(id: int) -> User:\n    return A@B.T @ x.shape[0] + W@h.dot(x)",
    "npm install react@18.2.0 lodash@latest; ![logo](logo@2x.png); git clone git@github.com:org/repo.git",
    "postgres://user:password@localhost:5432/db https://{user}:{token}@host.io redis://:<secret>@cache.io",
    "write to user@example.com, postgresql://app:s3cret@db.example.com/app",
    "the order 4532015112830366 of 1700000000000000000 ns, tweet 1760000000000000001, EAN 4006381333931",
    "timestamps 1732664022123 1732664022123456, ids 4929718250138446 and 2305843009213693951",
    "ISBN 978-3-16-148410-0, call 555-0134 or (212) 555-0199, 123-456-7890, +1 +22 +333 x+1234567",
    "if (a+1 == b+22) return x[+3]; 1+2+3+4+5+6 = 21; +100000000 points, +35236450.6; 000-00-0000, 123-45-678",
    "SELECT * FROM NPM_TOKENS WHERE SKU='SK12' AND ACCOUNT='AC99' -- npm_lifecycle_event, hf_hub_download, sk-learn",
    "FROM UK22 TO DE01 VIA AB12 CDEF GHIJ KLMN, GB82 WEST 1234 5698 7654 33, part NO93-8601-1117-948",
    '{"a": [1, 2.5e10, -3], "eyJ": "eyJhbGciOi", "b": "\\u00e9 -----BEGIN PUBLIC KEY-----"}',
    "密码是什么?请在 2024年11月26日 之前打电话。Привет, как дела? ١٢٣٤٥٦٧٨٩٠١٢٣٤٥٦",
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=42s https://medium.com/@user/a-story-12:30@night",
]


def line(text: str) -> bytes:
    return examples.encode({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text}]})


def cases() -> list[tuple[str, str]]:
    return [(kind, text) for kind, texts in FOUND.items() for text in texts]


@pytest.mark.parametrize(
    ("kind", "text"), cases(), ids=[f"{kind} {number}" for number, (kind, _) in enumerate(cases())]
)
def test_each_kind_is_found_in_any_text_of_a_row(kind: str, text: str) -> None:
    call = {"function": {"name": "send", "arguments": json.dumps({"to": text})}}
    calling = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}]}
    for row in (
        {"prompt": f"This: {text}", "completion": "ok"},
        {"prompt": "ok", "completion": f'"é{chr(10)}" {text}, and more'},
        {"text": f"({text})"},
        calling,
    ):
        assert sensitive.kinds(examples.encode(row)) == (kind,)


def test_every_kind_has_an_example_here() -> None:
    assert set(FOUND) == set(sensitive.NAMES)


@pytest.mark.parametrize("text", ORDINARY)
def test_what_only_looks_like_it_is_not_found(text: str) -> None:
    assert sensitive.kinds(line(text)) == ()


def test_a_kind_is_told_once_a_row() -> None:
    text = "jane.doe@gmail.com, john@gmail.com, +44 20 7946 0018"
    assert sensitive.kinds(line(text)) == ("emailAddresses", "phoneNumbers")


def patterns() -> list[Any]:
    return [
        pytest.param(each, pattern, id=f"{each.kind} {number}")
        for each in RECOGNIZERS
        for number, pattern in enumerate(each.patterns())
    ]


@pytest.mark.parametrize(("recognizer", "pattern"), patterns())
def test_whatever_a_recognizer_can_match_it_is_asked_for(recognizer: Recognizer, pattern: Any) -> None:
    """The hints keep nothing back: they stand in the line of every text that a recognizer's patterns match."""

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(text=st.from_regex(pattern, alphabet=st.characters(codec="ascii")))
    def check(text: str) -> None:
        assert recognizer in sensitive.hinted(line(text))

    check()


def test_ordinary_rows_load_none_of_the_libraries() -> None:
    heavy = {"torch", "spacy", "detect_secrets", "stdnum", "phonenumbers", "publicsuffixlist", "requests"}
    program = (
        "import sys; from finetune_trainer.data import sensitive; "
        f"print([sensitive.kinds(line) for line in {[line(ORDINARY[at]) for at in (0, 3, 4)]!r}], "
        f"sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(), (), ()] []"
