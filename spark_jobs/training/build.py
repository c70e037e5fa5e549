"""Builds training sets: a spine joined point in time with a service's features, as a Delta table with a manifest of what it rests on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout, times
from feature_definitions.intervals import iso
from feature_definitions.language import FeatureService
from feature_definitions.reading import CASES, FAILED, PRESENT, default
from feature_registry import subjects
from feature_registry.registry import PATIENCE
from lake import delta
from lake.readable import AsOf, Published
from lake.staging import guarded, staging
from spark_jobs import tables, workers
from spark_jobs.context import Context
from spark_jobs.publish.validate import Judge
from spark_jobs.training import computed, gate, leak_report, manifest, order, overlap, parts, provenance, statistics
from spark_jobs.training import spine as spines
from spark_jobs.training.join import CASE, Extent, JoinAsked, joined
from spark_jobs.training.leak_report import Reported
from spark_jobs.training.manifest import Basis, Manifest
from spark_jobs.training.parts import Cut
from spark_jobs.training.provenance import Versions
from spark_jobs.training.recomputed import recomputed
from spark_jobs.training.spine import Spine, TrainingRequest


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
    spine, left_out = spines.mature(spine, request, context.clock())
    basis = manifest.basis(spine, request, published, left_out=left_out)
    spines.refuse_immature(spine, request, context.clock(), last=basis.summary["last"])
    computed = {name: context.registry.computed_as(name, each.generation) for name, each in published.items()}
    fingerprint = manifest.fingerprint(basis, computed)
    path, held = layout.training_set_table(context.lake, request.name), manifest.read(context.lake, request.name)
    if held is not None and held.get("fingerprint") == fingerprint and delta.exists(path):
        return _built(request, path, held, unchanged=True)
    rejected = manifest.read_rejected(context.lake, request.name)
    if rejected is not None and rejected.get("fingerprint") == fingerprint:
        return _built(request, path, rejected, unchanged=True)
    subject = subjects.training_set(request.name, lake=context.lake)
    with context.registry.lease(subject, now=context.clock(), patience=PATIENCE):
        written = _written(basis, fingerprint, context, judge)
    return _built(request, path, written, unchanged=False)


def _built(request: TrainingRequest, path: str, of: Manifest, *, unchanged: bool) -> Built:
    failed = of.get("rejected")
    return Built(request.name, path, int(str(of["rows"])), of, unchanged, tuple(failed) if isinstance(failed, list | tuple) else ())


def _written(basis: Basis, fingerprint: str, context: Context, judge: Judge | None) -> Manifest:
    """Write the table and then its manifest, which must not outlive the table that it describes; or only that it was rejected."""
    build_id, name, spine = context.mint("p"), basis.request.name, basis.spine
    split, label = basis.request.split, basis.request.label
    cut = None if split is None else parts.cut(spine.rows, split, at=spine.at, label=label)
    versions = provenance.of_groups(basis.published.values())
    with staging(context.lake, build_id) as folder:
        with workers.as_raised():
            rows = tables.stage(_joined(basis, cut, context), f"{folder}/rows")
        kept = _kept(rows, basis, cut)
        found = gate.judged(kept, basis.request, at=spine.at, judge=judge)
        described = _described(basis, rows, cut, context) | {"expectations": [*found.found]}
        described |= _provenance(basis, context, before=versions) | {"fingerprint": fingerprint, "built_at": iso(context.clock())}
        context.registry.fence()
        if found.verdict.failed:
            rejected = described | {"rejected": [*found.verdict.failed]}
            manifest.write_rejected(rejected, context.lake, name)
            return rejected
        manifest.delete(context.lake, name)
        table, partition = layout.training_set_table(context.lake, name), [layout.ROW_DATE]
        fence = guarded(folder, context.registry.fence)
        tables.overwrite(kept, table, commit_id=build_id, partition=partition, order=[layout.ROW_NUMBER], fence=fence)
    context.registry.fence()
    manifest.write(described, context.lake, name)
    manifest.delete_rejected(context.lake, name)
    return described


def _kept(rows: DataFrame, basis: Basis, cut: Cut | None) -> DataFrame:
    """The columns that readers see: the spine's, the service's, and those that every training set has."""
    service = basis.request.service
    shown = [F.col(f"`{name}`") for name in (*basis.spine.columns, *service.outputs)]
    if basis.request.statuses:
        shown += [status.alias(layout.status_column(name)) for name, status in _statuses(service).items()]
    if cut is not None:
        shown.append(F.col(parts.PART))
    day = F.to_date(f"`{basis.spine.at}`")
    dated = day if basis.dated_by == "day" else F.trunc(day, "month")
    return rows.select(*shown, F.col(order.NUMBER).alias(layout.ROW_NUMBER), dated.alias(layout.ROW_DATE))


def _statuses(service: FeatureService) -> dict[str, Column]:
    """The status of each join's values and of each feature computed on demand, as an answer online has them."""
    named = F.array(*[F.lit(case.status) for case in CASES])
    found = {each.name: F.element_at(named, F.col(f"{CASE}{each.name}").cast("int") + F.lit(1)) for each in service.joins}
    failed = {each.name: F.col(f"{computed.FAILED}{each.name}") for each in service.on_demand}
    return found | {name: F.when(said, F.lit(FAILED)).otherwise(F.lit(PRESENT)) for name, said in failed.items()}


def _joined(basis: Basis, cut: Cut | None, context: Context) -> DataFrame:
    spine, request = basis.spine, basis.request
    rows = spine.numbered(basis.days)
    if cut is not None:
        rows = parts.with_part(rows, cut, at=spine.at, service=request.service, label=request.label)
    rows = joined(rows, _asked(basis), at=spine.at, spark=context.spark, extent=_extent(basis))
    rows = rows.withColumns({name: F.coalesce(F.col(f"`{name}`"), value) for name, value in _defaults(request.service).items()})
    return computed.with_features(rows, request.service, context.catalog)


def _asked(basis: Basis) -> list[JoinAsked]:
    """The joins, as they are asked of a spine from its source."""
    spine, request, asked = basis.spine, basis.request, []
    for wanted in request.service.joins:
        clock = AsOf(request.mode, spine.may_show(wanted.group))
        asked.append(JoinAsked(wanted, basis.published[wanted.group.name], clock))
    return asked


def _described(basis: Basis, rows: DataFrame, cut: Cut | None, context: Context) -> Manifest:
    """What a training set rests on, what its rows hold, and its leak report, for which a sample is joined a second time."""
    spine, request, found = basis.spine, basis.request, statistics.of_rows(rows, manifest.look(basis))
    described, sample = manifest.described(basis, found, cut), found.sample
    again = {} if sample is None else recomputed(sample, _asked(basis), at=spine.at, spark=context.spark)
    shared = overlap.across_parts(rows, sample, request, at=spine.at)
    return described | {"leaks": leak_report.report(sample, again, Reported(request, spine.of, spine.at, found.rows, shared))}


def _provenance(basis: Basis, context: Context, *, before: Versions) -> Manifest:
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


def _defaults(service: FeatureService) -> dict[str, Column]:
    """What stands for null, in the types of the outputs."""
    if not service.defaults:
        return {}
    types = computed.shown(service)
    return {name: tables.literal(default(value, types[name]), types[name]) for name, value in service.defaults.items()}
