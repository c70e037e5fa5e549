"""Feast's `POST /get-online-features`: what its requests ask for, in the words of our services."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from feature_definitions import FeatureGroup, FeatureService, Join
from feature_definitions.errors import UserError
from serving.request import Reading, RequestError, ServicePlan, Wanted, check_entities, compile_service, rows_of

MOST_PLANS = 1000
"""How many lists of features are kept compiled."""


class FeastBody(msgspec.Struct):
    """A request as Feast's clients send it; what else they say is not needed."""

    entities: dict[str, list[Any]]
    feature_service: str | None = None
    features: list[str] = []
    full_feature_names: bool = False


class FeastReading:
    """Reads Feast's requests; lists of features that were asked for before stay compiled."""

    def __init__(self, reading: Reading, groups: Mapping[str, FeatureGroup]) -> None:
        """Know the services, and the groups whose features may be asked for by name."""
        self._reading, self._groups = reading, groups
        self._plans: dict[tuple[str, ...], ServicePlan] = {}

    def asked(self, data: bytes) -> tuple[Wanted, bool]:
        """What a body asks for, and whether features are called by their full names."""
        try:
            body = msgspec.json.decode(data, type=FeastBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"the body is no request of Feast's: {error}", field=None) from None
        plan = self._reading.plan(body.feature_service) if body.feature_service is not None else self._plan(tuple(body.features))
        entities = {name: body.entities[name] for name in body.entities if name in plan.asked or body.feature_service is not None}
        checked = check_entities(plan, rows_of(plan, entities))
        return Wanted(plan, [tuple(entity[name] for name in plan.asked) for entity in checked]), body.full_feature_names

    def _plan(self, features: tuple[str, ...]) -> ServicePlan:
        if not features:
            raise RequestError(
                "say which features: feature_service is a service's name, features a list like group:feature", field="features"
            )
        if features not in self._plans:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[features] = self._compiled(features)
        return self._plans[features]

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
