"""What can be asked, as an OpenAPI 3.1 document, and the page that shows it without the internet."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from feature_definitions.sql.data_types import element_of, is_array, is_decimal
from serving import connect
from serving.request import MOST_ENTITIES, ServicePlan

_TYPES: Mapping[str, dict[str, Any]] = {
    "int64": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
    "double": {"type": ["number", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "date": {"type": ["string", "null"], "format": "date"},
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
}
_JSON = "application/json"


def document(plans: Mapping[str, ServicePlan]) -> dict[str, Any]:
    """The document of these services."""
    asked = {name: _entity(plan) for name, plan in plans.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headwater", "version": "1", "description": "Features, from the online store."},
        "paths": {
            "/v1/features": {
                "post": _operation("Features of entities, as rows or as columns", body=_features(asked), answer=_RESULTS, packed=_PACKED)
            },
            "/v1/features/{service}": {
                "get": _operation("Features of one entity", parameters=[_in("path", "service", asked), *_keys(plans)], answer=_RESULT)
            },
            "/get-online-features": {
                "post": _operation("Features, asked for and answered as Feast does", body=_feast(asked), answer=_FEAST, packed=_PACKED[:1])
            },
            **{
                path: {"post": _operation("Features, by Connect's unary protocol", body=_CALLS[method], error="ConnectError")}
                for path, method in connect.PATHS.items()
            },
            "/v1/predict/{model}": {"post": _operation("Predictions of a model", body=_PREDICT, parameters=[_in("path", "model", ())])},
            "/v1/models": {"get": _operation("All models")},
            "/v1/services": {"get": _operation("All services")},
            "/v1/groups": {"get": _operation("All groups")},
            "/v1/groups/{name}": {"get": _operation("One group", parameters=[_in("path", "name", ())])},
            "/v1/groups/{name}/versions": {"get": _operation("What is online of a group", parameters=[_in("path", "name", ())])},
            "/v1/search": {
                "get": _operation(
                    "Groups by a word, a tag and an owner", parameters=[_in("query", each, ()) for each in ("q", "tag", "owner")]
                )
            },
            "/v1/stats": {"get": _operation("What was answered since the process began")},
            "/healthz": {"get": _operation("Whether the process lives")},
            "/readyz": {"get": _operation("Whether it can answer")},
        },
        "components": {"schemas": {"Error": _ERROR, "ConnectError": _CONNECT_ERROR}},
    }


def page() -> bytes:
    """The page that shows the document, and asks what is typed into it."""
    return (files("serving") / "pages" / "docs.html").read_bytes()


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["field", "message"],
            "properties": {"field": {"type": ["string", "null"]}, "message": {"type": "string"}},
        }
    },
}


_CONNECT_ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
}
_NAMED = {"type": "object"}
_RESULT = {
    "type": "object",
    "required": ["entity", "values", "status", "event_timestamp"],
    "properties": {"entity": _NAMED, "values": _NAMED, "status": _NAMED, "event_timestamp": _NAMED},
}
_RESULTS = {
    "type": "object",
    "required": ["results"],
    "properties": {
        "results": {"anyOf": [{"type": "array", "items": _RESULT, "minItems": 1}, _RESULT]},
        "stale": {"const": True},
        "freshness": {"type": "object"},
    },
}
_LISTS = {"type": "array"}
_FEAST = {
    "type": "object",
    "required": ["metadata", "results"],
    "properties": {
        "metadata": {"type": "object", "required": ["feature_names"], "properties": {"feature_names": _LISTS}},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["values", "statuses", "event_timestamps"],
                "properties": {"values": _LISTS, "statuses": _LISTS, "event_timestamps": _LISTS},
            },
        },
    },
}
_PACKED = ("application/msgpack", "application/x-protobuf", "application/vnd.apache.arrow.stream")
"""In which types features are answered beside JSON, to who accepts them."""
_CALLS: Mapping[str, dict[str, Any]] = {
    "Get": {
        "type": "object",
        "properties": {"service": {"type": "string"}, "entity": {"type": "object"}, "maxStaleness": {"type": "string"}},
        "required": ["service", "entity"],
    },
    "BatchGet": {
        "type": "object",
        "properties": {
            "service": {"type": "string"},
            "entities": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "maxStaleness": {"type": "string"},
        },
        "required": ["service", "entities"],
    },
}
_PREDICT = {
    "type": "object",
    "required": ["entities"],
    "properties": {"entities": {"anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "object"}]}},
}


def _operation(  # one for each part of an operation
    summary: str,
    *,
    body: object = None,
    parameters: list[dict[str, Any]] | None = None,
    answer: object = None,
    packed: tuple[str, ...] = (),
    error: str = "Error",
) -> dict[str, Any]:
    refused = {"description": "Refused; the message says why", "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{error}"}}}}
    statuses = ("400", "401", "403", "404", "405", "413", "415", "429", "500", "501", "503", "504")
    found = {_JSON: {"schema": answer or {}}, **{kind: {"schema": {}} for kind in packed}}
    answers: dict[str, Any] = {"200": {"description": "The answer", "content": found}, **dict.fromkeys(statuses, refused)}
    made: dict[str, Any] = {"summary": summary, "responses": answers}
    if body is not None:
        made["requestBody"] = {"required": True, "content": {_JSON: {"schema": body}}}
    return made | ({"parameters": parameters} if parameters else {})


def _features(asked: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {"oneOf": [_features_of(name, entity) for name, entity in asked.items()]} if asked else {"type": "object"}


def _features_of(service: str, entity: dict[str, Any]) -> dict[str, Any]:
    rows = {"type": "array", "items": entity, "minItems": 1, "maxItems": MOST_ENTITIES}
    lists = {name: {"type": "array", "items": kind, "minItems": 1} for name, kind in entity["properties"].items()}
    return {
        "type": "object",
        "title": service,
        "additionalProperties": False,
        "required": ["service", "entities"],
        "properties": {
            "service": {"const": service},
            "entities": {"anyOf": [rows, {**entity, "properties": lists}]},
            "include": {"type": "array", "items": {"const": "freshness"}},
            "max_staleness": {"type": "string", "pattern": "^[0-9]{1,7}[smhdw]$"},
        },
    }


def _feast(asked: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["entities"],
        "properties": {
            "feature_service": {"enum": list(asked)},
            "features": {"type": "array", "items": {"type": "string", "pattern": "^.+:.+$"}},
            "entities": {"type": "object", "additionalProperties": {"type": "array"}},
            "full_feature_names": {"type": "boolean"},
        },
    }


def _entity(plan: ServicePlan) -> dict[str, Any]:
    kinds = {name: _type(kind) for name, kind in plan.asked.items()}
    return {"type": "object", "properties": kinds, "required": list(kinds), "additionalProperties": False}


def _type(kind: str) -> dict[str, Any]:
    if is_array(kind):
        return {"type": ["array", "null"], "items": _type(element_of(kind))}
    if is_decimal(kind):
        return {"type": ["number", "string", "null"]}
    return _TYPES.get(kind, {"type": ["string", "null"]})


def _in(place: str, name: str, known: Any) -> dict[str, Any]:
    schema = {"type": "string", **({"enum": list(known)} if known else {})}
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _keys(plans: Mapping[str, ServicePlan]) -> list[dict[str, Any]]:
    return [_in("query", name, ()) for name in dict.fromkeys(key for plan in plans.values() for key in plan.asked)]
