"""What a project opens when something needs it: Spark, the registry, what readers may see of groups.

Heavy parts (Spark, Great Expectations, Delta) are imported when something needs them, so that looking costs nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from feature_definitions import layout, settings
from feature_definitions.errors import UserError
from feature_definitions.language import FeatureGroup
from feature_definitions.loader import Catalog
from feature_definitions.records import LeaseHolder, PromotedBy, RegistryFacts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from feature_registry.leases import Lease
    from feature_registry.move import Moved
    from feature_registry.planner import Planner
    from feature_registry.registry import Registry
    from headwater.openlineage import Job
    from lake.readable import Published
    from spark_jobs.context import Context

Say = Callable[[str], None]


class NotEmpty(UserError):
    """A registry that holds something and would be replaced."""


class RegistryLost(UserError):
    """A registry that knows nothing of a lake with a past: it was lost, or is another one."""


class TableLost(UserError):
    """A group's table lacks what was published last: what is read of it would be too little, without a word."""


@dataclass
class OpenProject:
    """A project's settings and definitions, and what was opened for it. Times are UTC.

    Ends with `close()` or a `with` block, which stop Spark if this project started it (where Spark runs already, it is shared); the
    embedded online store runs on until `down()`.
    """

    settings: settings.Settings
    catalog: Catalog
    say: Say = field(repr=False)
    clock: Callable[[], datetime] = field(repr=False)
    _started_spark: bool = field(default=False, init=False, repr=False)

    def __enter__(self) -> Self:
        """The project itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def rebuild_registry(self, *, over: Literal["nothing", "anything"] = "nothing") -> RegistryFacts:
        """Restore the registry from the lake alone: ingested files, revisions, ledger, publishes, generations, promotions, releases, syncs.

        Refused (NotEmpty) over a registry that holds something, unless that may be replaced.
        """
        from feature_registry import rebuild

        if over == "nothing" and self._any_registry.facts() != RegistryFacts():
            raise NotEmpty(
                "the registry holds facts already, so there is nothing to restore; if they are wrong, replace all of them by what the lake "
                "says: headwater registry rebuild --replace"
            )
        found = rebuild.facts(self.settings.lake)
        self._any_registry.restore(found)
        return found

    def move_registry(self, to: str, *, over: Literal["nothing", "anything"] = "nothing") -> "Moved":
        """Move the registry to the database at another URL, as a whole or not at all; set HEADWATER_REGISTRY_URL to it afterwards.

        Refused (Occupied) if that one holds something else, unless that may be lost, and (LeaseHeld) while a process works on something.
        From then on the registry that the rows came from refuses to be used; moving back makes it the one that is used again.
        """
        return self._registry.move(to, over=over, now=self.clock())

    def leases(self) -> tuple[LeaseHolder, ...]:
        """Which process works on what now, since when, and whether another may take it over."""
        return self._registry.leases()

    def close(self) -> None:
        """Stop Spark and close the registry, if this project started them."""
        if self._started_spark:
            self._spark.stop()
        self.__dict__.pop("_spark", None)
        self._started_spark = False
        self.__dict__.pop("_registry", None)
        if "_any_registry" in self.__dict__:
            self._any_registry.close()
            del self.__dict__["_any_registry"]

    @cached_property
    def _spark(self) -> "SparkSession":
        from lake import s3
        from spark_jobs import jvm, session

        shared = session.running()
        if not shared:
            self.say("starting Spark")
        found, cache = self.settings, self.settings.cache / "jars"
        remote = s3.reach() if self._is_remote else None
        spark = session.session(
            jars=jvm.delta_jars(cache),
            scratch=found.state / "spark",
            master=found.spark_master,
            driver_memory=found.driver_memory,
            more_jars=found.spark_jars if remote is None else (*found.spark_jars, *jvm.s3_jars(cache)),
            conf={} if remote is None else session.s3_conf(remote),
        )
        if remote is not None:
            session.tell_of_s3(spark, remote)
        self._started_spark = not shared
        return spark

    @property
    def _is_remote(self) -> bool:
        """Whether Spark itself reads or writes on S3, so that it needs jars and settings for it before it starts."""
        return self.settings.lake.startswith(layout.S3) or any(source.needs_s3_in_spark for source in self.catalog.sources.values())

    @cached_property
    def _registry(self) -> "Registry":
        """The registry, which must not have been moved elsewhere, nor have forgotten what the lake remembers."""
        from lake import storage

        lake, registry = self.settings.lake, self._any_registry
        registry.refuse_if_moved()
        if storage.exists(layout.records_table(lake, "files")):
            from feature_registry import rebuild

            if registry.blank() and rebuild.facts(lake) != RegistryFacts():
                raise RegistryLost(
                    f"the registry is empty, but the lake {lake} holds what was ingested and published before: it was "
                    "lost, or is another one. Restore it from the lake: headwater registry rebuild"
                )
            if not registry.blank() and (newer := rebuild.unknown(lake, registry)) is not None:
                raise RegistryLost(
                    f"the registry does not know {newer}, which the lake {lake} remembers last: it was put back from a backup, or is "
                    "another one. Restore it from the lake: headwater registry rebuild --replace"
                )
        return registry

    @cached_property
    def _any_registry(self) -> "Registry":
        from feature_registry.registry import open_registry

        return open_registry(self.settings.registry_url, say=self.say)

    @property
    def _context(self) -> "Context":
        from spark_jobs.context import Context

        where = (self.settings.root, self.settings.lake, self._registry)
        found = self.settings
        return Context(lambda: self._spark, *where, self.clock, self.say, found.connection, found.catalog, found.spark_master)

    @property
    def _planner(self) -> "Planner":
        """What can be decided now: a planner knows nothing of what is published later."""
        from feature_registry.planner import Planner

        return Planner(self.catalog, self._registry, self.settings.lake, self.clock())

    def _alone(self, group: FeatureGroup) -> "AbstractContextManager[Lease]":
        """Work on a group alone, after waiting for whoever does now."""
        from feature_registry import subjects
        from feature_registry.registry import PATIENCE

        subject = subjects.group(group.name, lake=self.settings.lake, registry=self._registry)
        return self._registry.lease(subject, now=self.clock(), patience=PATIENCE)

    def _recover(self, groups: Iterable[FeatureGroup]) -> None:
        """Set right what a crash cut off; what a living process is publishing is left to it."""
        publishing = self._registry.publishing()
        for group in (each for each in groups if each.name in publishing):
            from feature_registry import LeaseHeld, subjects
            from spark_jobs.publish import commit

            subject = subjects.group(group.name, lake=self.settings.lake, registry=self._registry)
            with suppress(LeaseHeld), self._registry.lease(subject, now=self.clock()):
                commit.recover(group, lake=self.settings.lake, registry=self._registry)

    def _told(self, job: Callable[[Any], "Job | None"]) -> AbstractContextManager[list[str]]:
        """Tell a receiver of OpenLineage events of a run, if one is set and there is something to tell."""
        if self.settings.lineage is None:
            return nullcontext([])
        from headwater import openlineage

        run = job(openlineage)
        return nullcontext([]) if run is None else openlineage.telling(run, self.settings, clock=self.clock, say=self.say)

    def _show(self, group: FeatureGroup, number: int, *, by: PromotedBy) -> None:
        """Give readers a generation to see, in the lake's records first."""
        from lake import facts

        with self._alone(group):
            promotion = self._planner.promotion(group, number, by=by)
            facts.keep_promotion(self.settings.lake, promotion, fence=self._registry.fence)
            self._registry.promote(promotion)

    def _promote(self, group: FeatureGroup, number: int) -> None:
        """Let readers see a generation, if its run decides that."""
        from feature_registry import LeaseHeld

        if self._planner.promotes(group, number, promote=self.settings.promote):
            with suppress(LeaseHeld):  # whoever publishes the group now promotes it afterwards
                self._show(group, number, by="automatic")

    def _published(self, groups: Iterable[FeatureGroup], generations: Mapping[str, int] = MappingProxyType({})) -> "dict[str, Published]":
        """What readers may see of groups, by name, after what a crash cut off was set right; of other generations where these are said."""
        from feature_definitions.sql.column_types import column_types_of
        from feature_registry import schema
        from lake.readable import Published, on_grid

        chosen, lake = {group.name: group for group in groups}, self.settings.lake
        self._recover(chosen.values())
        planner = self._planner
        numbers = {name: generations.get(name) or planner.generation(group) for name, group in chosen.items()}
        publishes = self._registry.many(schema.PUBLISHES, list(numbers.items()))
        return {
            name: Published(group, n, lake, column_types_of(group), on_grid(group, publishes[name, n]), planner.empty(group, n))
            for name, n in numbers.items()
            for group in [chosen[name]]
        }

    def _has_lost(self, group: str, number: int) -> bool:
        """Whether the table of a group's generation lacks the publish that it had last, though the registry knows of it."""
        from lake import commit_file, s3

        path = layout.feature_table(self.settings.lake, group, number)
        newest = None if s3.is_remote(path) else self._registry.newest_commit(group, number)
        if newest is None or commit_file.is_of(path, newest[1], newest[0]):
            return False
        from lake import delta  # which loads more than `status` needs of a table that has all

        return delta.lacks(path, newest[0])

    def _whole(self, published: "Mapping[str, Published]") -> None:
        """Raise TableLost where a group's table lacks what was published last."""
        lost = [each.group.name for each in published.values() if self._has_lost(each.group.name, each.generation)]
        if lost:
            tables = f"the table of {lost[0]} lacks" if len(lost) == 1 else f"the tables of {', '.join(lost)} lack"
            raise TableLost(f"{tables} what was published last; compute it again: headwater materialize {' '.join(lost)}")

    def _with_epochs(self, published: "Mapping[str, Published]") -> "dict[str, Published]":
        """What readers may see of groups, with the syncs that brought it online, and who was erased there."""
        from lake import facts, readable

        erasures, commits = facts.erasures(self.settings.lake), facts.commits(self.settings.lake)
        return {
            name: replace(readable.none_before_its_commit(each, commits), epochs=self._registry.epochs(name), erasures=erasures)
            for name, each in published.items()
        }
