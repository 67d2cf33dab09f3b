"""The settings as the environment gives them, and what is said about a value that can't be."""

import pytest
from finetune_operator.settings import Settings


def test_what_is_not_set_has_its_default() -> None:
    assert Settings.from_environment({"FINETUNE_NAMESPACES": "", "PATH": "/bin"}) == Settings()


def test_every_kind_of_value() -> None:
    found = Settings.from_environment(
        {
            "FINETUNE_NAMESPACES": "kitchen, bakery,",
            "FINETUNE_METRICS_PORT": "9191",
            "FINETUNE_PROGRESS_SECONDS": "2.5",
            "FINETUNE_LOG_FORMAT": "json",
        }
    )
    assert found == Settings(
        namespaces=("kitchen", "bakery"), metrics_port=9191, progress_seconds=2.5, log_format="json"
    )


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("FINETUNE_METRICS_PORT", "http", "FINETUNE_METRICS_PORT must be a number above zero, not 'http'"),
        ("FINETUNE_PROGRESS_SECONDS", "0", "FINETUNE_PROGRESS_SECONDS must be a number above zero, not '0'"),
        ("FINETUNE_LOG_FORMAT", "xml", "FINETUNE_LOG_FORMAT must be text or json, not 'xml'"),
        (
            "FINETUNE_ACCELERATOR_MEMORY",
            "nvidia.com/gpu=80Gi,L4",
            "FINETUNE_ACCELERATOR_MEMORY must have entries such as nvidia.com/gpu=80Gi, not 'L4'",
        ),
        (
            "FINETUNE_IMAGE_PULL_POLICY",
            "Sometimes",
            "FINETUNE_IMAGE_PULL_POLICY must be Always or IfNotPresent or Never, not 'Sometimes'",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_a_sentence(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=variable) as refused:
        Settings.from_environment({variable: value})
    assert str(refused.value) == sentence
