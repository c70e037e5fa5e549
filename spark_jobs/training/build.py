"""Builds training sets: a spine joined point in time with a service's features, as a Delta table with a manifest of what it rests on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame

from expectations.report import dataset
from feature_definitions import layout, times
from feature_definitions.intervals import instant, iso, micros, parse_instant
from feature_definitions.language import Source
from feature_registry import subjects
from feature_registry.registry import PATIENCE
from lake import delta, training_sets
from lake.readable import AsOf, Published
from lake.training_sets import Manifest
from spark_jobs import tables, workers
from spark_jobs.context import Context
from spark_jobs.publish.validate import Judge
from spark_jobs.training import computed, finish, gate, kept_rows, leak_report, manifest, overlap, parts, provenance
from spark_jobs.training import spine as spines
from spark_jobs.training.join import Extent, JoinAsked, joining
from spark_jobs.training.leak_report import Reported
from spark_jobs.training.manifest import Basis
from spark_jobs.training.parts import Cut
from spark_jobs.training.provenance import Versions
from spark_jobs.training.recomputed import recomputed
from spark_jobs.training.spine import Spine, TrainingRequest
from spark_jobs.training.statistics import Statistics


@dataclass(frozen=True, slots=True)
class Built:
    """A training set that lies at `path`; `unchanged` if what it rests on was the same as last time, so that nothing was computed.

    `rejected` names the checks that kept it from its readers: then `rows` and `manifest` are of what was rejected, and at `path` lies
    what was there before, if anything.
    """

    name: str
    path: str
    rows: int
    manifest: Mapping[str, object]
    unchanged: bool
    rejected: tuple[str, ...] = ()

    @property
    def page(self) -> str:
        """The HTML page that shows this build, or why it was rejected."""
        return training_sets.page_of(dict(self.manifest), self.path.removesuffix(f"/training_sets/{self.name}"))

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table in the spine's order, read without Spark."""
        return delta.load(self.path).sort_by(layout.ROW_NUMBER)

    def batches(self, *, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """The rows in Arrow batches, for sets that no memory holds: in the order of the files, which is not always that of `hw_row`."""
        return delta.batches(self.path, rows=rows)

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame in the spine's order and in nullable types (Int64, boolean, string), read without Spark."""
        return delta.pandas(self.to_arrow())


def build(
    spine: Spine, request: TrainingRequest, *, published: Mapping[str, Published], context: Context, judge: Judge | None = None
) -> Built:
    """Join, check that exactly the spine's rows came out, and replace the training set of this name in one commit.

    `judge` judges what is expected of the rows; where they fail, readers keep what they had.
    """
    spines.check(spine, request)
    rests = rests_on(spine.of, spine.state, request, published=published, context=context)
    basis = manifest.basis(spine, request, published, now=context.clock())
    same, path = known_by(basis, rests, context), layout.training_set_table(context.lake, request.name)
    subject = subjects.training_set(request.name, lake=context.lake)
    with context.registry.lease(subject, now=context.clock(), patience=PATIENCE):
        if found := known_again(request, same, context):
            return found
        written = _written(basis, same, context, judge)
    return built(request, path, written, unchanged=False)


def standing(source: Source, request: TrainingRequest, *, published: Mapping[str, Published], context: Context) -> Built | None:
    """The training set of a source as it lies there, if versions alone tell that it would come out the same; needs no Spark."""
    rests = rests_on(source, spines.state_of(source, context), request, published=published, context=context)
    found = None if rests is None else _standing(request, context, "rests_on", rests)
    ripens_at = None if found is None else found.manifest["ripens_at"]
    return found if ripens_at is None or context.clock() < parse_instant(str(ripens_at)) else None


def rests_on(
    source: Source | None, state: Versions | None, request: TrainingRequest, *, published: Mapping[str, Published], context: Context
) -> str | None:
    """By what versions alone know a training set of a source in a state again; None without one, or where the state is not known."""
    if source is None or state is None:
        return None
    return manifest.resting(source, request, published, _computed_as(published, context), of=state)


def known_by(of: Basis, rests: str | None, context: Context) -> Manifest:
    """By what a training set is known again, and from when on it comes out otherwise because labels are known by then."""
    ripens_at = None if of.ripens_at is None else iso(instant(of.ripens_at))
    return {"fingerprint": manifest.fingerprint(of, _computed_as(of.published, context)), "rests_on": rests, "ripens_at": ripens_at}


def known_again(request: TrainingRequest, same: Manifest, context: Context) -> Built | None:
    """The training set that stands, if its rows would come out the same; notes by what else it is known then. The caller has its lease."""
    found = _standing(request, context, "fingerprint", same["fingerprint"])
    return None if found is None else replace(found, manifest=training_sets.renewed(found.manifest, same, context.lake))


def _computed_as(published: Mapping[str, Published], context: Context) -> Mapping[str, manifest.Computed]:
    return {name: context.registry.computed_as(name, each.generation) for name, each in published.items()}


def _standing(request: TrainingRequest, context: Context, by: str, value: object) -> Built | None:
    """The training set, or its newest build if that was rejected, whose manifest has this value."""
    path, held = layout.training_set_table(context.lake, request.name), training_sets.newest(context.lake, request.name)
    if held is not None and held.get(by) == value and training_sets.stands(held, context.lake):
        return built(request, path, held, unchanged=True)
    rejected = training_sets.rejected(context.lake, request.name)
    if rejected is not None and rejected.get(by) == value:
        return built(request, path, rejected, unchanged=True)
    return None


def rows(spine: Spine, request: TrainingRequest, *, published: Mapping[str, Published], context: Context) -> pa.Table:
    """The rows that a training set of this spine would have, in its order, computed and not kept: the spine's columns and the outputs."""
    spines.check(spine, request)
    basis = manifest.basis(spine, request, published, now=context.clock())
    columns = [*spine.columns, *request.service.outputs]
    with workers.as_raised():
        found = finished(basis, None, context).frame.select(*[f"`{name}`" for name in (*columns, layout.ROW_NUMBER)]).toArrow()
    found = found.sort_by(layout.ROW_NUMBER)
    if not found.column(layout.ROW_NUMBER).equals(pa.chunked_array([pa.array(range(basis.summary["rows"]), pa.int64())])):
        raise AssertionError(f"{basis.summary['rows']} rows of the spine became {found.num_rows}; this is a defect")
    return found.select(columns)


def built(request: TrainingRequest, path: str, of: Manifest, *, unchanged: bool) -> Built:
    """The training set that a manifest describes."""
    failed = of.get("rejected")
    return Built(request.name, path, int(str(of["rows"])), of, unchanged, tuple(failed) if isinstance(failed, list | tuple) else ())


def _written(basis: Basis, same: Manifest, context: Context, judge: Judge | None) -> Manifest:
    """Write the table and then its manifest, which must not outlive the table that it describes; or only that it was rejected."""
    build_id, name = context.mint("p"), basis.request.name
    split, label = basis.request.split, basis.request.label
    cut = None if split is None else parts.cut(basis.spine.rows, split, at=basis.spine.at, label=label, days=basis.days)
    before = provenance.of_groups(basis.published.values())
    asked = asked_of_rows(basis, layout.training_set_table(context.lake, name), build_id)
    with kept_rows.kept(finished(basis, cut, context), asked, context) as kept:
        found = gate.judged(kept.rows, basis.request, at=basis.spine.at, judge=judge)
        described = _described(basis, kept, cut, context) | {"expectations": [*found.found]}
        described |= provenance_of(basis, context, before=before) | same | {"built_at": iso(context.clock())}
        rejected = committed(described, found, kept, context, build_id=build_id)
    return rejected or completed(described, context, build_id=build_id)


def committed(described: Manifest, found: gate.JudgedRows, kept: kept_rows.Kept, context: Context, *, build_id: str) -> Manifest | None:
    """Commit rows that passed their checks, once their manifest is kept; the manifest of a build that is rejected instead, if it is."""
    context.registry.fence()
    if found.verdict.failed:
        return _refused(described, found, context)
    training_sets.begin(described, context.lake, str(described["name"]), build_id=build_id)
    kept.commit(context.registry.fence)
    return None


def _refused(described: Manifest, found: gate.JudgedRows, context: Context) -> Manifest:
    """Keep what is wrong with a build, with its page; readers keep what they have."""
    rejected = described | {"rejected": [*found.verdict.failed]}
    training_sets.write_rejected(rejected, context.lake, str(described["name"]))
    training_sets.write_page(dataset.page(rejected), rejected, context.lake)
    return rejected


def completed(described: Manifest, context: Context, *, build_id: str) -> Manifest:
    """Put the manifest of a build that was committed beside its table, and its page."""
    context.registry.fence()
    whole = training_sets.finish(described, context.lake, str(described["name"]), build_id=build_id)
    training_sets.write_page(dataset.page(whole), whole, context.lake)
    return whole


def asked_of_rows(basis: Basis, table: str, build_id: str) -> kept_rows.RowsAsked:
    """What the files hold: the columns that readers see, which are the spine's, the service's, and those that every training set has."""
    request = basis.request
    named = [*[join.name for join in request.service.joins], *[feature.name for feature in request.service.on_demand]]
    statuses = [layout.status_column(name) for name in named]
    part = [] if request.split is None else [parts.PART]
    own = [*(statuses if request.statuses else ()), *part, layout.ROW_NUMBER, layout.ROW_DATE]
    columns = (*basis.spine.columns, *request.service.outputs, *own)
    look = manifest.look(basis)._replace(checked=columns)
    return kept_rows.RowsAsked(table, build_id, columns, look, basis.dates, basis.summary["rows"])


def finished(basis: Basis, cut: Cut | None, context: Context) -> workers.Flow:
    """The rows with all their columns, as workers make them."""
    spine, request = basis.spine, basis.request
    rows = spine.numbered(basis.days)
    if cut is not None:
        rows = parts.with_part(rows, cut, at=spine.at, service=request.service, label=request.label)
    flow = joining(rows, _asked(basis), at=spine.at, spark=context.spark, extent=_extent(basis))
    flow = computed.with_features(finish.with_defaults(flow, request.service), request.service, context.catalog)
    return finish.with_own_columns(flow, request.service, at=spine.at, dated_by=basis.dated_by, statuses=request.statuses)


def _asked(basis: Basis) -> list[JoinAsked]:
    """The joins, as they are asked of a spine from its source."""
    spine, request, asked = basis.spine, basis.request, []
    for wanted in request.service.joins:
        clock = AsOf(request.mode, spine.may_show(wanted.group))
        asked.append(JoinAsked(wanted, basis.published[wanted.group.name], clock))
    return asked


def _described(basis: Basis, kept: kept_rows.Kept, cut: Cut | None, context: Context) -> Manifest:
    """What a training set rests on, what its rows hold, and its leak report."""
    types = {field.name: tables.type_named(field.dataType) for field in kept.rows.schema}
    described = manifest.described(basis, kept.found, cut, types=types)
    return described | {"leaks": leaks(basis, kept.rows, kept.found, context)}


def leaks(basis: Basis, rows: DataFrame, found: Statistics, context: Context) -> leak_report.Report:
    """The leak report of what was found, for which its sample is joined a second time; `rows` are all, among which near ones are sought."""
    spine, request, sample = basis.spine, basis.request, found.sample
    again = {} if sample is None else recomputed(sample, _asked(basis), at=spine.at, spark=context.spark)
    shared = overlap.across_parts(rows, sample, request, at=spine.at)
    ahead = iso(instant(basis.summary["last"])) if basis.summary["last"] > micros(context.clock()) else None
    return leak_report.report(sample, again, Reported(request, spine.of, spine.at, found.rows, shared, ahead))


def provenance_of(basis: Basis, context: Context, *, before: Versions) -> Manifest:
    """The tables that were read, of which `before` holds the versions that groups had at first, the definitions, and the code."""
    after = provenance.of_groups(basis.published.values())
    return {
        "inputs": provenance.inputs({**dict(basis.spine.tables), **before}, after, lake=context.lake),
        "revisions": {name: context.registry.next_revision(name) - 1 for name in sorted(basis.spine.reads)},
        "definitions": provenance.definitions(basis.request.service),
        "code": provenance.code(str(context.catalog)),
    }


def _extent(basis: Basis) -> Extent | None:
    """Which rows of groups are read; that one was there long ago gives no value, but tells EXPIRED and EMPTY from NOT_FOUND."""
    summary = basis.summary
    if not summary["rows"]:
        return None
    return Extent(times.FIRST if basis.request.statuses else summary["first"], summary["last"], summary["rows"])
