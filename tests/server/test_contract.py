"""The whole API as its own description has it, by schemathesis, over a real socket."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    negative_data_rejection,
    positive_data_acceptance,
)

from neuroprompt.server.app import create_app
from neuroprompt.server.settings import ServeSettings

AT_MOST = {"n": 1, "steps": 1, "batch_size": 1, "n_iter": 1, "width": 64, "height": 64, "max_new_tokens": 8}
AT_MOST |= {"if_better": 1}
"""More may be asked for, and need not be drawn here."""

api = schemathesis.openapi.from_dict(create_app(ServeSettings(api_key="a-key-for-tests")).openapi())
few = schemathesis.openapi.from_dict(api.raw_schema)
few.config.phases.coverage.enabled = False
relaxed = {"suppress_health_check": [*HealthCheck], "deadline": None}


def check(server, case):
    """Statuses, types, shapes and headers are those that are described, what is not described is refused, and so is who
    has no key. What is not asked for: that all is accepted which its types allow (a wish may contradict itself), that
    more is refused of others' dialects and in queries than they refuse, and that `Allow` knows two routes of a path."""
    excluded = [positive_data_acceptance, allow_header_conformance]
    if case.path not in ("/v1/enhance", "/v1/score", "/v1/duels", "/v1/votes"):
        excluded.append(negative_data_rejection)
    if isinstance(case.body, dict) and case.meta.generation.mode.is_positive:
        for name, most in AT_MOST.items():
            if isinstance(case.body.get(name), int):
                case.body[name] = min(case.body[name], most)
        if isinstance(case.body.get("size"), str):
            case.body["size"] = "64x64"
    headers = {"Authorization": f"Bearer {server.key}"}
    case.call_and_validate(server.url, headers=headers, excluded_checks=excluded, timeout=120)


@few.parametrize()
@settings(max_examples=3, **relaxed)
def test_the_api_is_as_described(server, case):
    check(server, case)


@pytest.mark.exhaustive
@api.parametrize()
@settings(max_examples=100, **relaxed)
def test_the_api_is_as_described_thoroughly(server, case):
    check(server, case)
