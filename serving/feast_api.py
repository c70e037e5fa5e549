"""Feast's `POST /get-online-features`: what its requests ask for, in the words of our services."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from msgspec.structs import astuple

from feature_definitions import FeatureGroup, FeatureService, Join
from feature_definitions.errors import UserError
from serving.request import (
    MOST_ENTITIES,
    FormName,
    Reading,
    RequestError,
    ServicePlan,
    Wanted,
    check_entities,
    compile_service,
    quick_lists,
    rows_of,
)

MOST_PLANS = 1000
"""How many lists of features are kept compiled."""


class FeastBody(msgspec.Struct):
    """A request as Feast's clients send it; what else they say is not needed."""

    entities: msgspec.Raw
    feature_service: str | None = None
    features: tuple[str, ...] = ()
    full_feature_names: bool = False


_BODY = msgspec.json.Decoder(FeastBody)
_LISTS = msgspec.json.Decoder(dict[str, list[Any]])


class FeastReading:
    """Reads Feast's requests; lists of features that were asked for before stay compiled."""

    def __init__(self, reading: Reading, groups: Mapping[str, FeatureGroup]) -> None:
        """Know the services, and the groups whose features may be asked for by name."""
        self._reading, self._groups = reading, groups
        self._plans: dict[tuple[str, ...], tuple[ServicePlan, msgspec.json.Decoder[Any] | None]] = {}

    def asked(self, data: bytes) -> Wanted:
        """What a body asks for; a mistake is named."""
        return self.quickly(data) or self._asked(data)

    def quickly(self, data: bytes) -> Wanted | None:
        """What a body asks for, if its keys are plain and have no mistake."""
        try:
            body = _BODY.decode(data)
            if body.feature_service is not None:
                plan, lists = self._reading.plans[body.feature_service], self._reading.quick_lists[body.feature_service]
            else:
                plan, read = self._plans[body.features]
                if read is None:
                    return None
                lists = read
            entities = list(zip(*astuple(lists.decode(body.entities)), strict=True))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, ValueError):
            return None
        return Wanted(plan, entities, _form(body)) if 0 < len(entities) <= MOST_ENTITIES else None

    def _asked(self, data: bytes) -> Wanted:
        try:
            body = _BODY.decode(data)
            lists = _LISTS.decode(body.entities)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"the body is no request of Feast's: {error}", field=None) from None
        plan = self._reading.plan(body.feature_service) if body.feature_service is not None else self._plan(body.features)
        entities = {name: lists[name] for name in lists if name in plan.asked or body.feature_service is not None}
        checked = check_entities(plan, rows_of(plan, entities))
        return Wanted(plan, [tuple(entity[name] for name in plan.asked) for entity in checked], _form(body))

    def _plan(self, features: tuple[str, ...]) -> ServicePlan:
        if not features:
            raise RequestError(
                "say which features: feature_service is a service's name, features a list like group:feature", field="features"
            )
        if features not in self._plans:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._compiled(features)
            self._plans[features] = plan, quick_lists(plan.asked, more="allowed")
        return self._plans[features][0]

    def _compiled(self, features: tuple[str, ...]) -> ServicePlan:
        wanted: dict[str, list[str]] = {}
        for feature in features:
            group, colon, column = feature.partition(":")
            if not colon or group not in self._groups:
                known = ", ".join(sorted(self._groups))
                raise RequestError(f"features: {feature!r} is not like group:feature, with a group of {known}", field="features")
            wanted.setdefault(group, []).append(column)
        try:
            joins = tuple(Join(self._groups[group], tuple(dict.fromkeys(columns))) for group, columns in wanted.items())
            return replace(compile_service(FeatureService("features", joins=joins)), service=f"features:{','.join(features)}")
        except UserError as error:
            raise RequestError(f"features: {error}", field="features") from None


def _form(body: FeastBody) -> FormName:
    return "feast in full" if body.full_feature_names else "feast"
