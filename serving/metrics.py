"""Counts what was answered, as whole numbers that cost nothing to raise, and tells them: as JSON, and in Prometheus' words."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field

from online_sync.codec import EpochRecord

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The upper bounds of the latencies that are counted together, in seconds; longer ones are beyond the last."""


@dataclass(slots=True)
class Served:
    """What was answered for one service: requests by latency, entities, those that were near, and those of which every join found some."""

    requests: int = 0
    entities: int = 0
    near: int = 0
    found: int = 0
    seconds: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def answered(self, entities: int, seconds: float) -> None:
        """Count one request that was answered."""
        self.requests += 1
        self.entities += entities
        self.seconds += seconds
        self.latencies[bisect_left(BOUNDS, seconds)] += 1


@dataclass(slots=True)
class Predicted:
    """What a model answered: requests, and the seconds of their features and of the model itself."""

    requests: int = 0
    features_seconds: float = 0.0
    model_seconds: float = 0.0


class Counts:
    """What was answered since the process began: of each service, and refusals by their HTTP status."""

    def __init__(self, late: AbstractSet[str] = frozenset()) -> None:
        """Nothing was answered yet; `late` are the features computed on demand that took too long, whenever it is looked at."""
        self.late = late
        self.services: dict[str, Served] = {}
        self.refused: Counter[int] = Counter()
        self.models: dict[str, Predicted] = {}

    def of(self, service: str) -> Served:
        """The counts of a service; lists of features that are asked for by name count as one."""
        name = service.partition(":")[0]
        return self.services.get(name) or self.services.setdefault(name, Served())

    def predicted(self, model: str, seconds: Mapping[str, float]) -> None:
        """Count one request that a model answered, with the seconds of its features and of itself."""
        counted = self.models.setdefault(model, Predicted())
        counted.requests += 1
        counted.features_seconds += seconds["features"]
        counted.model_seconds += seconds["model"]

    def stats(self) -> dict[str, object]:
        """All counts, with the shares of entities that were near and that were found."""
        return {
            "services": {name: _shares(served) for name, served in self.services.items()},
            "models": {name: asdict(predicted) for name, predicted in self.models.items()},
            "refused": dict(self.refused),
            "late": sorted(self.late),
        }


def exposition(counts: Counts, records: Mapping[str, EpochRecord]) -> str:
    """The counts, and what is online, in Prometheus' text format."""
    lines = (*_of_services(counts), *_of_models(counts), *_of_refusals(counts), *_of_late(counts), *_of_groups(records))
    return "".join(f"{line}\n" for line in lines)


def _shares(served: Served) -> dict[str, object]:
    return {
        "requests": served.requests,
        "entities": served.entities,
        "near_ratio": served.near / served.entities if served.entities else None,
        "found_ratio": served.found / served.entities if served.entities else None,
        "mean_seconds": served.seconds / served.requests if served.requests else None,
    }


def _of_services(counts: Counts) -> Iterator[str]:
    for name, told in (("entities", "Entities asked for"), ("near", "Entities that were near"), ("found", "Entities found in every join")):
        yield f"# HELP headwater_{name}_total {told}."
        yield f"# TYPE headwater_{name}_total counter"
        for service, served in counts.services.items():
            yield f'headwater_{name}_total{{service="{service}"}} {getattr(served, name)}'
    yield "# HELP headwater_request_seconds Latency of requests that were answered."
    yield "# TYPE headwater_request_seconds histogram"
    for service, served in counts.services.items():
        total = 0
        for bound, number in zip((*map(str, BOUNDS), "+Inf"), served.latencies, strict=True):
            total += number
            yield f'headwater_request_seconds_bucket{{service="{service}",le="{bound}"}} {total}'
        yield f'headwater_request_seconds_sum{{service="{service}"}} {served.seconds:.6f}'
        yield f'headwater_request_seconds_count{{service="{service}"}} {served.requests}'


def _of_models(counts: Counts) -> Iterator[str]:
    told = (("requests", "Requests that a model answered"), ("features_seconds", "Seconds of their features"), ("model_seconds", "Its own"))
    for name, said in told:
        yield f"# HELP headwater_model_{name}_total {said}."
        yield f"# TYPE headwater_model_{name}_total counter"
        for model, predicted in counts.models.items():
            yield f'headwater_model_{name}_total{{model="{model}"}} {getattr(predicted, name)}'


def _of_refusals(counts: Counts) -> Iterator[str]:
    yield "# HELP headwater_refused_total Requests that were refused, by HTTP status."
    yield "# TYPE headwater_refused_total counter"
    for status, number in sorted(counts.refused.items()):
        yield f'headwater_refused_total{{status="{status}"}} {number}'


def _of_late(counts: Counts) -> Iterator[str]:
    yield "# HELP headwater_late Features computed on demand that took longer than their limit, and are FAILED until a reload."
    yield "# TYPE headwater_late gauge"
    for name in sorted(counts.late):
        yield f'headwater_late{{feature="{name}"}} 1'


def _of_groups(records: Mapping[str, EpochRecord]) -> Iterator[str]:
    yield "# HELP headwater_group_epoch The last finished sync of a group."
    yield "# TYPE headwater_group_epoch gauge"
    for name, record in records.items():
        yield f'headwater_group_epoch{{group="{name}"}} {record.epoch}'
    yield "# HELP headwater_group_synced_seconds When a group was last synced, in seconds since 1970."
    yield "# TYPE headwater_group_synced_seconds gauge"
    for name, record in records.items():
        yield f'headwater_group_synced_seconds{{group="{name}"}} {record.synced_at / 1e6}'
