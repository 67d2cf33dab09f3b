"""What may be read by all has nothing in it that lets one in."""

import logging

import pytest
from finetune_trainer.contract.redaction import Redacting, redacted

CANARY = "canary-4711"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            f'Could not connect to the endpoint URL: "https://anna:{CANARY}@minio:9000/models?list"',
            'Could not connect to the endpoint URL: "https://minio:9000/models?list"',
        ),
        (f"http://{CANARY}@proxy:3128 refused", "http://proxy:3128 refused"),
        (f"'https://s3/models/a?X-Amz-Signature={CANARY}&X-Amz-Expires=1' failed", "'https://s3/models/a' failed"),
        (f"GET https://host/rows.jsonl?token={CANARY}", "GET https://host/rows.jsonl"),
        (f"{{'Authorization': 'Bearer {CANARY}'}}", "{'Authorization': 'Bearer [hidden]'}"),
        (f"authorization: bearer {CANARY}", "authorization: bearer [hidden]"),
        ("hf://acme/recipes@0a1b2c3d has no such revision. Is it so?", None),
        ("oci://127.0.0.1:5000/a/b@sha256:00 could not be reached: why? See model.revision=1", None),
    ],
)
def test_addresses_and_headers_lose_what_lets_one_in(text: str, left: str | None) -> None:
    assert redacted(text, {}) == (text if left is None else left)


@pytest.mark.parametrize(
    "name",
    [
        "FINETUNE_OUTPUT_AWS_SECRET_ACCESS_KEY",
        "FINETUNE_MODEL_AWS_ACCESS_KEY_ID",
        "FINETUNE_DATASET_HF_TOKEN",
        "FINETUNE_OUTPUT_AZURE_STORAGE_CONNECTION_STRING",
        "FINETUNE_JUDGE_OPENAI_API_KEY",
        "FINETUNE_TRACKING_MLFLOW_TRACKING_PASSWORD",
        "FINETUNE_TRACKING_WANDB_API_KEY",
        "WANDB_API_KEY",
    ],
)
def test_what_the_process_was_given_is_not_told(name: str) -> None:
    assert redacted(f"it said: {CANARY} is wrong", {name: CANARY}) == "it said: [hidden] is wrong"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TRACKIO_WRITE_TOKEN", f"{CANARY}\n", f"Illegal header value b'{CANARY}\\n'"),
        ("X_TOKEN", f"{CANARY}/+ a", "https://host/canary-4711%2F%2B%20a/x"),
        ("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=a;AccountKey={CANARY};Suffix=b", f"signature of {CANARY}"),
        ("GOOGLE_APPLICATION_CREDENTIALS_JSON", f'{{"private_key": "BEGIN\\n{CANARY}\\n"}}', f"no key: {CANARY}"),
    ],
)
def test_nor_a_part_of_it_however_a_library_quotes_that(name: str, value: str, text: str) -> None:
    told = redacted(text, {name: value})
    assert "canary" not in told
    assert "[hidden]" in told


def test_what_keeps_nobody_out_is_told() -> None:
    told = {"FINETUNE_MODEL_AWS_REGION": "eu-central-1", "HF_ENDPOINT": "https://hub.internal", "KEYBOARD": "german"}
    text = "eu-central-1 of https://hub.internal is german"
    assert redacted(text, told) == text


def test_a_log_has_none_in_messages_or_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_MODEL_HF_TOKEN", CANARY)
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        caught = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "%s", (CANARY,), caught)
    told = Redacting(logging.Formatter("%(message)s")).format(record)
    assert CANARY not in told
    assert "ValueError: [hidden]" in told
