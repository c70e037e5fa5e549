"""The document against the server that it describes: whatever schemathesis makes of it, right or wrong, is answered as it says."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from serving import openapi
from serving.request import compile_service
from tests.serving.test_rest import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.processes import Service

DOCUMENT = openapi.document({name: compile_service(service) for name, service in SERVICES.items()})
HOLD = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance", "unsupported_method"]
WHOLLY_DESCRIBED = {"/v1/features", "/v1/services", "/v1/groups", "/v1/models", "/v1/search", "/v1/stats", "/healthz", "/readyz"}
"""What answers whatever the document allows."""
A_WHOLE_NUMBER_WITH_A_POINT = re.compile(r"(\.0|e\+\d+) is not an int64")
"""JSON Schema takes 1.0 for an integer; a key is not written so."""
CASES = [
    (path, method, mode)
    for path, methods in DOCUMENT["paths"].items()
    for method, said in methods.items()
    for mode in (("positive", "negative") if "requestBody" in said else ("positive",))
]
"""What has no body can hardly be asked wrongly."""


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    """What schemathesis makes of the document; it is loaded here, as it takes a while."""
    with warnings.catch_warnings(action="ignore"):
        import schemathesis

        yield schemathesis.openapi.from_dict(DOCUMENT)


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_what_the_document_describes_is_answered_as_it_says(service: Service, described: Any, path: str, method: str, mode: str) -> None:
    import requests
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    operation, wanted = described[path][method], GenerationMode(mode)
    asked = [CHECKS.get_one(each) for each in HOLD]
    with requests.Session() as session:

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=wanted))
        def answered(case: Any) -> None:
            response = case.call(base_url=f"http://127.0.0.1:{service.port}", session=session)
            case.validate_response(response, checks=asked)
            if mode == "positive" and path in WHOLLY_DESCRIBED:
                assert response.status_code == 200 or A_WHOLE_NUMBER_WITH_A_POINT.search(response.text), response.text

        answered()


def test_the_document_that_is_served_is_this_one(service: Service) -> None:
    assert service.get("/openapi.json").body == DOCUMENT
