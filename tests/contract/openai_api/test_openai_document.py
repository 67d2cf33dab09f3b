"""The server asked what its own OpenAPI document allows, and much that it forbids: it answers as the document says."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openai_server import KEY
from schemathesis import Case, GenerationMode
from schemathesis.checks import content_type_conformance, not_a_server_error
from schemathesis.checks import response_schema_conformance as schema_conformance
from schemathesis.checks import status_code_conformance as status_conformance

CHECKS = [not_a_server_error, status_conformance, content_type_conformance, schema_conformance]
# Of each operation and each mode.
EXAMPLES = 3


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.usefixtures("train")
def test_nothing_that_is_sent_breaks_the_server(url: str, mode: GenerationMode) -> None:
    address = url.removesuffix("/v1")
    document = schemathesis.openapi.from_dict(httpx.get(f"{address}/openapi.json").json())
    document.config.update(base_url=address)
    found = [result.ok() for result in document.get_all_operations()]
    # The same handlers answer the same under Azure's paths.
    operations = [each for each in found if not each.path.startswith(("/openai/fi", "/openai/v1/fi"))]
    assert len(operations) == 26
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, checks=CHECKS)

        ask()
