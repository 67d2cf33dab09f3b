"""Asks a server whatever its OpenAPI document allows, and what it does not, and holds each answer to the document.

schemathesis makes the requests, the same ones each time. What a document can't tell, what is there, is given.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

# Right by the document, and refused for what it can't say: these parameters name things, or forbid one another.
_NAMES = {
    *("after", "model", "training_file", "validation_file", "properties"),
    *("file", "limit", "method", "integrations", "hyperparameters"),
}


@dataclass(frozen=True)
class Asked:
    """Who asks whom, and what was answered, by operation and status.

    there: what is there, by the beginning of a path and the parameter, such as "/v1/files {id}"; none of it is deleted.
    bodies: by the end of a path what a right body names.
    """

    address: str
    key: str
    there: Mapping[str, str]
    bodies: Mapping[str, Mapping[str, Any]]
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)

    def everything(self, examples: int) -> None:
        """Ask each operation so many times rightly, and as often wrongly; AssertionError with the first request whose
        answer is not as the document says.
        """
        ask = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        for found in schemathesis.openapi.from_url(f"{self.address}/openapi.json").get_all_operations():
            operation = found.ok()
            ask(given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))(self._rightly))()
            if operation.body or operation.query:
                ask(given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))(self._wrongly))()

    def _rightly(self, case: Case) -> None:
        self._place(case)
        named = next((named for end, named in self.bodies.items() if case.operation.path.endswith(end)), {})
        if isinstance(case.body, dict):
            case.body = case.body | {name: value for name, value in named.items() if name in case.body}
        if told := self._answer(case):
            assert (told["param"] or "hyperparameters").partition(".")[0] in _NAMES, (case.as_curl_command(), told)

    def _wrongly(self, case: Case) -> None:
        self._place(case)
        self._answer(case)

    def _place(self, case: Case) -> None:
        kept = {"account"} if case.method == "DELETE" else case.path_parameters.keys()
        for name in kept & case.path_parameters.keys():
            above = re.sub("^/openai/(v1/)?", "/v1/", case.operation.path.partition(f"/{{{name}}}")[0])
            case.path_parameters[name] = self.there.get(f"{above} {{{name}}}", case.path_parameters[name])

    def _answer(self, case: Case) -> dict[str, Any]:
        """What was wrong with it, if anything."""
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = case.call(headers=headers, timeout=60)
        self.answered[case.operation.label, answer.status_code] += 1
        case.validate_response(answer, excluded_checks=[positive_data_acceptance], headers=headers)
        return dict(answer.json()["error"]) if answer.status_code == 400 else {}
