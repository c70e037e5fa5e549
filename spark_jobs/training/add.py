"""Adds features to a training set that was built: its rows are the spine to which these alone are joined, its other columns stay."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import iso
from feature_definitions.language import FeatureService, Join
from feature_registry import subjects
from feature_registry.registry import PATIENCE
from lake import training_sets
from lake.training_sets import BuiltVersion, Manifest
from spark_jobs import tables
from spark_jobs.context import Context
from spark_jobs.publish.validate import Judge
from spark_jobs.training import build, gate, kept_rows, manifest, order, parts, past, provenance, unmoved
from spark_jobs.training import spine as spines
from spark_jobs.training.build import Built
from spark_jobs.training.manifest import Basis
from spark_jobs.training.past import Said
from spark_jobs.training.spine import Spine
from spark_jobs.training.statistics import Statistics
from spark_jobs.training.verify import Rests


def add(of: BuiltVersion, rests: Rests, more: Join, context: Context, *, judge: Judge | None) -> Built:
    """Join more to the rows of a training set, which stay those of its version; the service that `rests` on is the one without it."""
    unmoved.then(of, rests)
    whole = past.joined(rests.service, more)
    asked = replace(past.request(of, whole, rests.defined), expect=() if rests.defined is None else rests.defined.expected)
    own = past.own(of, asked, rests.source, context)
    only = _only(whole, more)
    spines.check(own, replace(asked, service=only, label=None))
    basis = manifest.basis(own, asked, rests.published, now=past.built_at(of))
    with context.registry.lease(subjects.training_set(asked.name, lake=context.lake), now=context.clock(), patience=PATIENCE):
        written = _written(of, basis, only, more, context, judge)
    return build.built(asked, layout.training_set_table(context.lake, asked.name), written, unchanged=False)


def _only(whole: FeatureService, more: Join) -> FeatureService:
    """The service of what is added alone, with the defaults of that."""
    defaults = {name: value for name, value in whole.defaults.items() if name in more.outputs}
    return replace(whole, joins=(more,), on_demand=(), defaults=defaults)


def _wide(of: BuiltVersion, basis: Basis, more: Join, context: Context) -> Spine:
    """All columns of a version's rows as a spine, in their places; the status of a join that finds them again comes anew."""
    rows = past.rows_of(of, context).withColumn(order.NUMBER, F.col(layout.ROW_NUMBER))
    return replace(basis.spine, rows=rows.drop(layout.ROW_NUMBER, layout.ROW_DATE, layout.status_column(more.name)))


def _written(of: BuiltVersion, basis: Basis, only: FeatureService, more: Join, context: Context, judge: Judge | None) -> Manifest:
    """Join what is added, judge all columns, commit them, and describe them."""
    request, build_id = basis.request, context.mint("p")
    joining = replace(basis, spine=_wide(of, basis, more, context), request=replace(request, service=only, split=None, label=None))
    group = more.group.name
    joining = replace(joining, published={group: basis.published[group]}, used={group: basis.used[group]}, dated=basis.dated_by)
    versions = provenance.of_groups(basis.published.values())
    asked = build.asked_of_rows(basis, layout.training_set_table(context.lake, request.name), build_id)
    counted = [*manifest.look(joining).counted, *([] if request.split is None else [parts.PART])]
    asked = asked._replace(look=asked.look._replace(counted=tuple(counted)))
    with kept_rows.kept(build.finished(joining, None, context), asked, context) as kept:
        found = gate.judged(kept.rows, request, at=basis.spine.at, judge=judge)
        described = _described(of, basis, joining, kept, context) | {"expectations": [*found.found]}
        described |= build.provenance_of(basis, context, before=versions) | {"built_at": iso(context.clock())}
        described |= _added(of, more) | _of_spine(of, described)
        rejected = build.committed(described, found, kept, context, build_id=build_id)
    return rejected or build.completed(described, context, build_id=build_id)


def _described(of: BuiltVersion, basis: Basis, joining: Basis, kept: kept_rows.Kept, context: Context) -> Manifest:
    """What all columns hold; how the values that were there were found is what it was."""
    types = {field.name: tables.type_named(field.dataType) for field in kept.rows.schema}
    said: Said = of.manifest
    look, found = manifest.look(basis), kept.found
    counts: dict[str, Mapping[str, int]] = {name: {} for name in look.counted}
    plain = replace(basis, request=replace(basis.request, split=None))
    whole: dict[str, Any] = manifest.described(
        plain, Statistics(found.rows, found.places, found.columns, counts | dict(found.counts), found.sample), None, types=types
    )
    added: dict[str, Any] = manifest.described(joining, found, None, types=types)
    joins = {**said["statistics"]["joins"], **added["statistics"]["joins"]}
    return whole | {
        "spine": said["spine"],
        "split": said["split"],
        "failed": said["failed"],
        "values_on_modelled_times": {**said["values_on_modelled_times"], **added["values_on_modelled_times"]},
        "statistics": {**whole["statistics"], "joins": {name: joins[name] for name in whole["statistics"]["joins"]}},
        "leaks": build.leaks(basis, kept.rows, found, context),
    }


def _of_spine(of: BuiltVersion, described: Said) -> Manifest:
    """Of which tables and revisions the spine is: those of the version whose rows it is."""
    said: Said = of.manifest
    named = {each["table"] for each in described["inputs"]}
    return {
        "inputs": [*(each for each in said["inputs"] if each["table"] not in named), *described["inputs"]],
        "revisions": said["revisions"],
    }


def _added(of: BuiltVersion, more: Join) -> Manifest:
    """What was added to the service, and a fingerprint that no other build has: a build by the service alone gives other columns."""
    said: Said = of.manifest
    added = [*said.get("added", ()), provenance.as_told(more) | {"to": training_sets.number(of)}]
    text = json.dumps([said["fingerprint"], added])
    return {"added": added, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}
