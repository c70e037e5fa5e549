"""What a project does with training sets, and with models that they taught."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from feature_definitions.counted import counted
from feature_definitions.errors import InputRefused, Unknown
from feature_definitions.language import (
    NAME,
    Column,
    FeatureGroup,
    FeatureService,
    Jdbc,
    Join,
    Mode,
    Query,
    TrainingSet,
    check_mode,
    check_no_verb,
)
from headwater import inputs, names
from headwater.open_project import OpenProject

if TYPE_CHECKING:
    import pyarrow as pa

    from headwater.experiments import Taught, Tracking
    from lake.training_sets import BuiltVersion, Listed, Shown
    from spark_jobs.publish.validate import Judge
    from spark_jobs.training.build import Built
    from spark_jobs.training.diff import Difference
    from spark_jobs.training.export import Exported, Format
    from spark_jobs.training.spine import Spine, TrainingRequest
    from spark_jobs.training.verify import Rests, Verified


class TrainingVerbs(OpenProject):
    """Training sets are built, grown, compared, verified and exported."""

    def training_set(  # noqa: PLR0913  # each is an option of the command
        self,
        name: str | None = None,
        *,
        spine: object = None,
        service: str | None = None,
        mode: Mode | None = None,
        spine_columns: Mapping[str, str | Column] | None = None,
        spine_timezone: str | None = None,
        statuses: bool = False,
    ) -> "Built":
        """Build a training set: one that the catalog defines, by name, or a spine (frame or path) joined with a service.

        A spine is a frame (as in `write`), the path of a Delta table, a Parquet file or folder, or a file of CSV, TSV or JSON, a
        `Query("SELECT ...", sources)`, or `Jdbc(query=..., connection=...)`, with the service's keys and `event_timestamp`. In a file
        keys are of the service's types; all other columns are text as written, or of the types in `spine_columns`; times without a zone
        are of `spine_timezone`.
        It comes out at `<lake>/training_sets/<name>` (the service's name, if none is given): the spine's rows and columns, each row once,
        and `<group or prefix>__<column>`. `mode`: `as_known` (default; what was known then), `event_time` (newest corrections)
        or `as_served` (what the online store answered then).
        With `statuses` it also has `<group or prefix>__hw_status`. If it fails what is expected of it, readers keep what they had.
        """
        from spark_jobs.ingest import jdbc
        from spark_jobs.training import build
        from spark_jobs.training.spine import of_source

        defined = None if spine is not None else names.training_set(self.catalog, name)
        if defined is not None:
            request = self._defined(defined, mode)
        else:
            request = self._asked(name, names.service(self.catalog, service), mode or "as_known")
        request = replace(request, statuses=request.statuses or statuses)
        rows = None if defined is not None else self._spine(spine, request.service, spine_columns, spine_timezone)
        groups = {j.group.name: j.group for j in request.service.joins}
        published = self._published(groups.values())
        self._whole(published)
        if request.mode == "as_served":
            published = self._with_epochs(published)
        self.say(f"joining {counted(len(published), 'group')} to the spine")
        numbers = {name: each.generation for name, each in published.items()}
        source = None if defined is None else defined.spine
        told = self._told(lambda of: of.of_training_set(request.name, request.service, numbers, self.settings.lake, spine=source))
        with told, jdbc.told(self._context, *(() if defined is None else (defined.spine,))):
            if defined is not None:
                if found := build.standing(defined.spine, request, published=published, context=self._context):
                    return found
                rows = of_source(defined.spine, self._context)
            assert rows is not None
            return build.build(rows, request, published=published, context=self._context, judge=_judge() if request.expect else None)

    def training_sets(self) -> "tuple[Listed, ...]":
        """The training sets that lie in the lake, by name: the newest version, how many there are, what rejected a newer build."""
        from lake import training_sets

        return training_sets.listed(self.settings.lake)

    def training_set_versions(self, name: str, version: int | None = None) -> "tuple[Shown, tuple[Shown, ...]]":
        """A version of a training set, by default the newest, and all versions of it, the newest first. Needs no Spark."""
        from lake import training_sets

        lake = self.settings.lake
        one = training_sets.at(lake, name, version)
        return training_sets.shown(one, lake), tuple(training_sets.shown(each, lake) for each in training_sets.versions(lake, name))

    def export_training_set(
        self, name: str, to: str | os.PathLike[str], *, kind: "Format | None" = None, version: int | None = None
    ) -> "Exported":
        """Write a version of a training set as one file of Parquet, CSV or Arrow, its rows in the spine's order. Needs no Spark.

        The format is that of the file's name, or else Parquet. The file is there whole or not at all.
        """
        from lake import training_sets
        from spark_jobs.training import export

        place = os.fspath(to)
        return export.export(
            training_sets.at(self.settings.lake, name, version), self.settings.lake, place, kind=kind or export.by_name(place)
        )

    def diff_training_sets(self, name: str, other: str | None = None, *, start: int | None = None, end: int | None = None) -> "Difference":
        """How a version of a training set differs from another one, or from one of another training set.

        Without versions these are the last one but one and the newest; of two training sets the newest of each.
        """
        from lake import training_sets
        from spark_jobs.training import diff, past

        first, second = training_sets.pair(self.settings.lake, name, other, start=start, end=end)
        source = self.catalog.sources.get(training_sets.spine_of(first) or "")
        identity = source.id if source is not None and training_sets.spine_of(second) == source.name else ()
        if not identity:
            identity = (*past.service(first, self.catalog).keys, training_sets.time_of(first))
        return diff.diff(first, second, identity, self._context)

    def verify_training_set(self, name: str, version: int | None = None) -> "Verified":
        """Look whether a version's rows are those that were written, and join them once more from what they rested on then.

        It does not matter what was published or ingested since. What was deleted meanwhile is named.
        """
        from lake import training_sets
        from spark_jobs.training import past, verify

        of = training_sets.at(self.settings.lake, name, version)
        self.say(f"verifying version {training_sets.number(of)} of {name}")
        try:
            rests = self._rests(of, past.service(of, self.catalog))
        except Unknown as gone:
            return verify.as_it_lies(of, self.settings.lake, changed=(str(gone),))
        return verify.verify(of, rests, self._context)

    def append_training_set(self, name: str) -> "Built":
        """Bring a training set of the catalog up to its spine: the partitions from the first date on whose rows are others are joined.

        Refused where a whole build would give the rows of earlier dates other values. Nothing is done where the spine has no other rows.
        """
        from lake import training_sets
        from spark_jobs.training import append, build
        from spark_jobs.training.spine import of_source

        of = training_sets.at(self.settings.lake, name)
        if training_sets.spine_of(of) is None:
            raise InputRefused(f"the spine of {name} was given, and is no source that grows; build it again with all of its rows")
        defined, rests = names.training_set(self.catalog, name), self._grown(of)
        request = replace(self._defined(defined, None), service=rests.service)
        if found := build.standing(defined.spine, request, published=rests.published, context=self._context):
            return found
        rows = of_source(defined.spine, self._context)
        self.say(f"appending to version {training_sets.number(of)} of {name}")
        with self._growing(name, rests.service, rests):
            return append.append(of, rests, rows, request, self._context, judge=_judge() if request.expect else None)

    def add_to_training_set(self, name: str, group: str, *features: str, prefix: str | None = None) -> "Built":
        """Join one more group, or more features of one that is joined, to a training set that was built; its other columns stay.

        The rows are those of its newest version. Refused where a whole build would give these other values.
        """
        from lake import training_sets
        from spark_jobs.training import add, past

        of = training_sets.at(self.settings.lake, name)
        more = Join(names.group(self.catalog, group), features, prefix)
        rests = self._grown(of, more.group)
        held = next((join for join in rests.service.joins if join.name == more.name), None)
        if held is not None:
            lacking = tuple(column for column in more.columns if column not in held.columns)
            if held.group.name != group or not lacking:
                raise Unknown(f"{name} has all of {', '.join(more.outputs)} already; name other features, or another prefix")
            more = replace(held, features=lacking)
        defined = self.catalog.training_sets.get(name)
        self.say(f"adding {', '.join(more.outputs)} to version {training_sets.number(of)} of {name}")
        with self._growing(name, past.joined(rests.service, more), rests):
            return add.add(of, rests, more, self._context, judge=_judge() if defined is not None and defined.expected else None)

    def features(
        self,
        spine: object,
        service: str | FeatureService,
        *,
        mode: Mode = "as_known",
        spine_is: Literal["of anything", "of others"] = "of anything",
    ) -> "pa.Table":
        """A spine with a service's features, as `training_set` joins them, as an Arrow table in the spine's order; nothing is kept.

        The service may be one that the catalog does not have. Where the rows of a frame are events of none of our sources (`of others`),
        an observation at the very time of a row counts, which else may be the row itself.
        """
        from spark_jobs.training import build
        from spark_jobs.training.spine import TrainingRequest

        found = service if isinstance(service, FeatureService) else names.service(self.catalog, service)
        check_mode("the join", mode)
        rows = self._spine(spine, found, None, None)
        if spine_is == "of others" and not rows.reads:
            rows = replace(rows, reads=frozenset({""}))
        published = self._published({each.group.name: each.group for each in found.joins}.values())
        self._whole(published)
        if mode == "as_served":
            published = self._with_epochs(published)
        return build.rows(rows, TrainingRequest(found.name, found, mode), published=published, context=self._context)

    def spine_query(self, sql: str, connection: str | None = None) -> Query | Jdbc:
        """A spine from SQL: a query of the sources whose names it reads, in Spark's words, or of a connection's database in its own."""
        from feature_definitions.sql import queries

        if connection is not None:
            return Jdbc(query=sql, connection=connection)
        return Query(sql, tuple(names.source(self.catalog, each) for each in sorted(queries.query_tables(sql))))

    def log_model(  # each is something that is logged
        self,
        model: str,
        *,
        training_set: str,
        version: int | None = None,
        files: str | os.PathLike[str] | None = None,
        metrics: Mapping[str, float] = MappingProxyType({}),
        params: Mapping[str, object] = MappingProxyType({}),
    ) -> "Taught":
        """Log a model and the version of the training set that taught it (default: the newest) as one run of MLflow.

        `files` is where the model lies. The run gets the training set as its dataset, with its manifest and page. It is kept in the project
        (`.headwater/mlflow.db`), or where `MLFLOW_TRACKING_URI` says.
        """
        from headwater import experiments
        from lake import training_sets

        of = training_sets.at(self.settings.lake, training_set, version)
        lesson = experiments.Lesson(None if files is None else Path(files), metrics, params)
        return experiments.log(model, of, lesson, lake=self.settings.lake, tracking=self._tracking)

    def models_of(self, training_set: str, version: int | None = None) -> "tuple[Taught, ...]":
        """The models that were logged with a training set, in one version of it or in any, the newest first."""
        from headwater import experiments

        return experiments.models(training_set, version, tracking=self._tracking)

    def training_set_of(self, model: str) -> "Taught":
        """The training set that taught the newest model of a name, or the one of this id, as it was logged."""
        from headwater import experiments

        return experiments.training_set_of(model, tracking=self._tracking)

    @property
    def _tracking(self) -> "Tracking":
        """Where MLflow keeps what is logged."""
        from headwater import experiments

        state = self.settings.state
        uri = self.settings.mlflow or f"sqlite:///{state / 'mlflow.db'}"
        return experiments.Tracking(uri, state / "mlflow", self.settings.name)

    def _growing(self, name: str, service: FeatureService, rests: "Rests") -> AbstractContextManager[object, bool | None]:
        """Tell of a run that adds something to a training set, and what a database says of its spine."""
        from spark_jobs.ingest import jdbc

        numbers = {each: published.generation for each, published in rests.published.items()}
        stack = ExitStack()
        stack.enter_context(self._told(lambda of: of.of_training_set(name, service, numbers, self.settings.lake, spine=rests.source)))
        stack.enter_context(jdbc.told(self._context, *(() if rests.source is None else (rests.source,))))
        return stack

    def _grown(self, of: "BuiltVersion", *more: FeatureGroup) -> "Rests":
        """What a training set rests on that something is added to: its groups are read in the generations that readers see."""
        from lake import training_sets
        from spark_jobs.training import past
        from spark_jobs.training.unmoved import NotAsBefore, anew

        service = past.with_added(names.service(self.catalog, str(of.manifest["service"])), of, self.catalog.tables)
        rests = self._rests(of, service, *more)
        self._whole(rests.published)
        for name, number in training_sets.generations(of).items():
            current = self._planner.generation(rests.published[name].group)
            if current != number:
                raise NotAsBefore(f"{of.manifest['name']}: readers see generation {current} of {name}, and it has {number}; {anew(of)}")
        return rests

    def _rests(self, of: "BuiltVersion", service: FeatureService, *more: FeatureGroup) -> "Rests":
        """What a version of a training set rests on, as it is now, and more groups."""
        from lake import facts, training_sets
        from spark_jobs.training import verify

        lake = self.settings.lake
        groups = {each.name: each for each in (*(join.group for join in service.joins), *more)}
        published = self._published(groups.values(), training_sets.generations(of))
        if of.manifest["mode"] == "as_served":
            published = self._with_epochs(published)
        source = self.catalog.sources.get(training_sets.spine_of(of) or "")
        defined = self.catalog.training_sets.get(str(of.manifest["name"]))
        return verify.Rests(service, defined, source, published, lambda: facts.commits(lake))

    def _defined(self, defined: TrainingSet, mode: Mode | None) -> "TrainingRequest":
        from spark_jobs.training import spine

        check_mode(f"training set {defined.name}", mode or defined.mode)
        asked = (defined.service, mode or defined.mode, defined.label, defined.cut, defined.statuses, defined.expected)
        return spine.TrainingRequest(defined.name, *asked)

    def _asked(self, name: str | None, service: FeatureService, mode: Mode) -> "TrainingRequest":
        from spark_jobs.training.spine import TrainingRequest

        check_mode("the training set", mode)
        if name is not None and not NAME.fullmatch(name):
            raise Unknown(f"{name!r} cannot name a training set; write small letters, digits and _, starting with a letter")
        check_no_verb(name or service.name)
        return TrainingRequest(name or service.name, service, mode)

    def _spine(self, given: object, service: FeatureService, columns: Mapping[str, str | Column] | None, timezone: str | None) -> "Spine":
        from spark_jobs.ingest import jdbc
        from spark_jobs.training import provenance, spine, spine_files

        if not isinstance(given, str | os.PathLike) and (columns or timezone):
            raise InputRefused("spine_columns and spine_timezone are for a spine in a file; the columns of others have types already")
        if isinstance(given, Jdbc):
            with jdbc.told(self._context, given):
                return spine.of_rows(jdbc.selected(given, self._context), keys=service.asked)
        if isinstance(given, Query):
            with jdbc.told(self._context, *given.sources):
                return spine.of_query(given, self._context, keys=service.asked)
        if isinstance(given, str | os.PathLike):
            said = spine_files.declared(service.asked, columns, timezone)
            path = inputs.path(given, self.settings.root)
            seen, rows = provenance.of_path(path), spine_files.read(path, said, name=str(given))
            return replace(spine.of_given(rows, self._spark, keys=service.asked), tables=(*seen.items(),))
        return spine.of_given(given, self._spark, keys=service.asked)


def _judge() -> "Judge":
    """Great Expectations, which takes seconds to import."""
    from expectations import adapter

    return adapter.judge
