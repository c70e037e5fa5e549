"""Results as an Arrow stream: typed columns with nulls; the only place of serving that knows pyarrow, which is loaded once it is asked for.

The columns are the request's own, the values, and of each join and each feature computed on demand the status, of each join the event
timestamp too. What is said beside results in JSON is in the schema's metadata.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from feature_definitions import layout
from feature_definitions.reading import from_json
from online_sync.codec import CodecError
from serving.forms import Beside, Keys, Said
from serving.request import ServicePlan, field_value


class ArrowForm:
    """One record batch in a stream."""

    flags = True

    def __init__(self, plan: ServicePlan) -> None:
        """Prepare the schema."""
        import pyarrow as pa

        from lake.arrow_types import arrow_type

        on_demand = [each.feature for each in plan.on_demand]
        self._plan, self._asked = plan, list(plan.asked.values())
        keys = dict(plan.asked)
        values = {name: kind for join in plan.joins for name, kind in join.types.items()} | {each.name: each.type for each in on_demand}
        parts = [*(join.name for join in plan.joins), *(each.name for each in on_demand)]
        times = [layout.event_timestamp_column(join.name) for join in plan.joins]
        self._schema = pa.schema(
            [
                *((name, arrow_type(kind)) for name, kind in (keys | values).items()),
                *((layout.status_column(part), pa.string()) for part in parts),
                *((time, arrow_type("timestamp")) for time in times),
            ]
        )

    def piece(self, entity: Keys, found: Sequence[Said]) -> tuple[Any, ...]:
        """The row, in the order of the schema."""
        try:
            values = [
                from_json(value, kind)
                for said, join in zip(found, self._plan.joins, strict=False)
                for value, kind in zip(said.values or (), join.types.values(), strict=True)
            ]
            more = [
                from_json(value, each.feature.type)
                for said, each in zip(found[len(self._plan.joins) :], self._plan.on_demand, strict=True)
                for value in said.values or ()
            ]
        except (ValueError, TypeError, ArithmeticError) as error:
            raise self._of_another_type(error) from None
        return (
            *(field_value(value, kind) for value, kind in zip(entity, self._asked, strict=True)), *values, *more,
            *(said.status for said in found),
            *(from_json(said.event_timestamp, "timestamp") for said, _ in zip(found, self._plan.joins, strict=False)),
        )  # fmt: skip

    def whole(self, pieces: Sequence[tuple[Any, ...]], beside: Beside) -> bytes:
        """The rows, turned, in a stream."""
        import pyarrow as pa

        said: dict[str, bytes] = {"stale": b"true"} if beside.stale else {}
        if beside.freshness is not None:
            said["freshness"] = msgspec.json.encode(beside.freshness)
        schema = self._schema.with_metadata(said) if said else self._schema
        try:
            columns = [pa.array(column, type=field.type) for column, field in zip(zip(*pieces, strict=True), schema, strict=True)]
        except (ValueError, TypeError) as error:
            raise self._of_another_type(error) from None
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(pa.record_batch(columns, schema=schema))
        data: bytes = sink.getvalue().to_pybytes()
        return data

    def computed(self, results: Sequence[Mapping[str, Any]], beside: Beside) -> bytes:
        """The same of results as plain data."""
        return self.whole([self._row(result) for result in results], beside)

    def _row(self, result: Mapping[str, Any]) -> tuple[Any, ...]:
        values, status, times = result["values"], result["status"], result["event_timestamp"]
        found = [Said(status[join.name], [values[out] for out in join.outputs], times[join.name]) for join in self._plan.joins]
        found += [Said(status[name], [values[name]]) for name in (each.feature.name for each in self._plan.on_demand)]
        return self.piece(tuple(result["entity"][key] for key in self._plan.asked), found)

    def _of_another_type(self, error: Exception) -> CodecError:
        groups = ", ".join(self._plan.groups)
        return CodecError(f"the store holds values of {groups} that are not of the types of {self._plan.service} ({error}); sync again")
