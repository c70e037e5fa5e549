"""What a project does with the online store: what is published is brought there, compared, erased and served."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from feature_definitions import layout
from feature_definitions.errors import InputRefused, Unknown, UserError
from feature_definitions.language import FeatureGroup
from feature_definitions.planning import plan
from feature_definitions.planning.upstream import sources_of
from feature_definitions.records import Epoch, Erasure
from headwater import inputs, names
from headwater.lake_verbs import LakeVerbs
from headwater.open_project import TableLost

if TYPE_CHECKING:
    import pyarrow as pa

    from online_sync.erasing import Erased
    from online_sync.parity import Parity, Scope
    from online_sync.sync import Depth, Synced, Target
    from serving.answer import Result
    from serving.request import Entity
    from serving.rest import Application
    from spark_jobs.publish.handed_in import Taken


_PUSHES_AT_ONCE = 5
"""How often a push syncs while others do at the same time: the next sync brings what is left."""
_LOOKS = 3
"""How often a sync asks what is published, while others go on between its look and its first row."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a project is served: in how many processes, with which file of API keys and which certificate and its key.

    `trust`: that a sync has finished is noticed after at most so many seconds. `stale`: while the store is away, what is near is answered
    for so many seconds. `grpc`: the port of gRPC, 0 for a free one, None for no gRPC. `models`: a folder of models (None: the project's).
    `near`: entities of each service that a process keeps near.
    """

    workers: int = 1
    keys: Path | None = None
    tls: tuple[str, str] | None = None
    trust: float = 0.0
    stale: float = 0.0
    grpc: int | None = None
    models: Path | None = None
    near: int = 20_000


class OnlineVerbs(LakeVerbs):
    """The newest rows of groups are synced and served."""

    def push(self, group: str, frame: object) -> "Taken":
        """Make a frame's rows, in the columns of the group's source, rows of the group at once: in the lake, and then online.

        A path is that of a file of CSV, JSON lines or Parquet with such rows. For an ObservationGroup whose source has no place and is not
        written to. Training sets see the rows from the time of the push on. The same rows twice count once. What does not fit, or breaks an
        expectation on rows, refuses all of them. Of a push that was cut off the next sync brings online what is in the lake.
        """
        from online_sync.sync import SyncOvertaken
        from spark_jobs import frames
        from spark_jobs.publish import handed_in

        found = names.group(self.catalog, group)
        self._recover([found])
        number, _ = plan.target_generation(found, self._registry.generations(group))
        wanted = found.input_sources[0].columns if found.input_sources else ()
        if isinstance(frame, str | os.PathLike):
            given: pa.Table | str = inputs.path(frame, self.settings.root, what="file of rows", kinds=inputs.ROWS)
        else:
            given = frames.arrow(frame, wanted=wanted)
        taken = handed_in.push(found, given, generation=number, context=self._context)
        self._promote(found, number)
        for _ in range(_PUSHES_AT_ONCE if found.online else 0):
            seen = self._registry.publishes(group, number)
            with suppress(SyncOvertaken):  # another push came meanwhile, and its sync may have looked before this one was in the lake
                self._sync_all([found], "as needed", "refuse")
                if self._registry.publishes(group, number) == seen:
                    break
        return taken

    def sync(
        self,
        *groups: str,
        depth: "Depth" = "as needed",
        other_lake: Literal["refuse", "take over"] = "refuse",
        limit: str | None = None,
    ) -> "tuple[Synced, ...]":
        """Bring the newest row of every entity to the online store; groups that were never published, or stay offline, are left out.

        Where no group is named, rows of groups that were online and have `online=False` now are deleted there.
        Where nothing was published since the last sync, a sample of the rows is compared with the store; all of them, if the sample or the
        servers give reason for doubt, or if `depth` is `verify`; `full` also writes them all, and leaves no other rows of these groups.
        Afterwards some rows are compared once more with the lake (`parity`).
        A group that is online for the first time, and would take more memory than the `limit` (like 500MB), is refused (TooMuchMemory).
        Where by this machine's clock the last sync is yet to come, that is refused (ClockBehind) unless `depth` is `full`.
        Where the store has this project's rows from another lake, that is refused (OtherLake), unless they may be taken over: then the
        other lake's keys are deleted.
        """
        planner, most = self._planner, None if limit is None else inputs.size(limit)
        chosen = [group for group in self._online(groups) if planner.current(group) is not None]
        done = self._sync_all(chosen, depth, other_lake, limit=most)
        if not groups:
            self._withdraw()
        return done

    def _sync_all(
        self,
        chosen: Sequence[FeatureGroup],
        depth: "Depth",
        other_lake: Literal["refuse", "take over"],
        *,
        at: datetime | None = None,
        limit: int | None = None,
    ) -> "tuple[Synced, ...]":
        """Sync groups as they are known now, or were at a time."""
        from lake import facts, identity
        from online_sync import sync

        if not chosen:
            return ()
        space = layout.KeySpace(self.settings.name, identity.made(self.settings.lake))
        with self._target(space) as target:
            if sync.claim(target, other_lake=other_lake) and self._registry.online():
                self._tell_of_other_names(target)
            self._keep_past_epochs()
            erased = facts.erased(self.settings.lake)
            deep = {group.name: self._depth(group, depth, target, erased=erased.get(group.entity.name)) for group in chosen}
            done, lost = list["Synced"](), list[str]()
            for group in chosen:
                try:
                    done.append(self._sync(group, target, deep[group.name], at=at, limit=limit))
                except TableLost as error:  # what is online of it stays, and the other groups go on
                    lost.append(str(error))
            sync.sweep(target, [group.name for group in chosen])
        if lost:
            raise TableLost("; ".join(lost))
        return tuple(done)

    def _tell_of_other_names(self, target: "Target") -> None:
        """Tell of rows that were brought under another name of the project."""
        from online_sync import sync

        for project in sync.former_names(target):
            self.say(
                f"the online store has rows of this lake under the project name {project}; if that was this project's name, nothing renews "
                "them any more: docs/online.md says how to delete them"
            )

    def _withdraw(self) -> None:
        """Take groups from the online store that were online and are to be offline; tell of those that left the catalog."""
        from online_sync import erasing, sync

        online, space, known = self._registry.online(), self._space(), names.groups(self.catalog, ())
        offline = [group.name for group in known if not group.online and group.name in online]
        left = sorted(online - {group.name for group in known})
        if space is None or not (offline or left):
            return
        with self._target(space) as target:
            for name in offline:
                if gone := erasing.withdraw(name, target=target, beside=online):
                    self.say(f"{name} has online=False now: its {gone:,} keys were deleted from the online store")
            for name in left:
                if sync.standing(name, target) is not None:
                    self.say(
                        f"{name} is online and not in the catalog, so nothing renews it; to delete it there, put it back with online=False "
                        "until the next headwater sync"
                    )

    def rollback(self, group: str, generation: int | None = None) -> "Synced":
        """Bring back what the sync before the last brought of a group, or another generation of it, which is promoted for that.

        It holds until the next sync, which brings the newest again: stop what syncs first. Refused (Unknown) if there was no sync before.
        """
        found = names.group(self.catalog, group)
        if generation is not None:
            self.promote(group, generation, accept="gaps")
            return self.sync(group, depth="full")[0]
        number = self._planner.generation(found)
        times = [each.synced_at for each in self._registry.epochs(group) if each.finished and each.generation == number]
        before = max((at for at in times if at < times[-1]), default=None)
        if before is None:
            raise Unknown(f"no sync of {group} before the last one is known, so there is nothing to go back to")
        return self._sync_all([found], "full", "refuse", at=before)[0]

    def parity(self, *groups: str, scope: "Scope" = "sample", then: Literal["nothing", "repair"] = "nothing") -> "tuple[Parity, ...]":
        """Compare what lies online with what the last sync of each group had to bring: a sample of the rows, or all (`full`).

        With `then="repair"` a group that differs is synced again, all its rows compared or written, and compared as before. Groups
        never synced are left out.
        """
        chosen, space = names.groups(self.catalog, groups), self._space()
        if space is None:
            return ()
        with self._target(space) as target:
            found = [self._parity(group, target, scope=scope) for group in chosen]
        compared = [each for each in found if each is not None]
        wrong = [each for each in compared if not each.holds]
        if then == "nothing" or not wrong:
            return tuple(compared)
        for each in wrong:
            self.sync(each.group, depth="full" if each.extra else "verify")
        again = {each.group: each for one in wrong for each in self.parity(one.group, scope=scope)}
        return tuple(again.get(each.group, each) for each in compared)

    def _parity(self, group: FeatureGroup, target: "Target", *, scope: "Scope") -> "Parity | None":
        from online_sync import parity

        published = self._published([group])[group.name]
        past = [each for each in self._registry.epochs(group.name) if each.finished and each.generation == published.generation]
        return parity.measure(published, target=target, scope=scope, last=past[-1] if past else None, erased=self._erased(group))

    def erase(self, entity: str, keys: Mapping[str, Any]) -> "tuple[Erased, ...]":
        """Take an entity from the online store at once, out of every group of it, and let no sync bring it back.

        The lake keeps what it has of it (`kept_of`), and training sets what they have: take its events away where they come from, too.
        """
        from online_sync import erasing, sync

        groups, text = self._keep_erasure(entity, keys, state="erased")
        self._withdraw()
        space = self._space()
        if space is None:
            return ()
        done, ledger = [], sync.Ledger(self._remember, self.clock)
        with self._target(space) as target:
            for group in (each for each in groups if each.online):
                last = next((each for each in reversed(self._registry.epochs(group.name)) if each.finished), None)
                work = sync.Work(self._registry.next_epoch(group.name), self.clock(), last, ledger=ledger)
                done.append(erasing.erase(group, text, target=target, work=work, beside=self._registry.online()))
        running = [each.group for each in done if each.state == "a sync runs"]
        if running:
            self.sync(*running)
        return tuple(done)

    def lift_erasure(self, entity: str, keys: Mapping[str, Any]) -> "tuple[Synced, ...]":
        """Let an entity that was erased be online again, as the lake has it."""
        groups, _ = self._keep_erasure(entity, keys, state="lifted")
        synced = [group.name for group in groups if group.online and self._registry.epochs(group.name)]
        return self.sync(*synced, depth="verify") if synced else ()

    def kept_of(self, entity: str) -> tuple[str, ...]:
        """The tables of the lake in which rows of an entity lie, whether or not it was erased online."""
        from lake import delta, optimize

        lake, found = self.settings.lake, list[str]()
        for group in names.groups_of(self.catalog, entity):
            found += [layout.source_table(lake, source.name) for source in sources_of(group)]
            found += optimize.group_tables(lake, group.name, [each.number for each in self._registry.generations(group.name)])
        return tuple(path for path in dict.fromkeys(found) if delta.exists(path))

    def store_warnings(self) -> list[str]:
        """What is wrong with the online store's settings, though it works: a policy by which it evicts rows."""
        from contextlib import closing

        from online_sync.servers import warnings
        from online_sync.store import Store

        with closing(Store(self.store_url())) as store:
            return warnings(store.says())

    def online(self, service: str, entities: object) -> "dict[str, list[Result]]":
        """What the serving layer answers for these entities, in the order asked: values, status and event timestamp per group.

        Entities are mappings of the service's keys, or the rows of a frame that has these keys as its columns.
        """
        from contextlib import closing

        from online_sync.store import Store
        from serving import answer, request

        compiled = request.compile_service(names.service(self.catalog, service))
        asked = request.check_entities(compiled, inputs.entities(entities))
        with closing(Store(self.store_url())) as store:
            space = self._space()
            if space is None:  # then the answer needs nothing of the store, which may be away all the same
                store.ping()
            return {"results": answer.fetch(compiled, asked, space=space, mget=store.mget, now=self.clock())}

    def parse_entity(
        self, texts: Mapping[str, str], *, service: str | None = None, group: str | None = None, entity: str | None = None
    ) -> "Entity":
        """An entity as a service, a group or its kind knows it, from texts as a command line has them: `{"customer_id": "42"}`."""
        from serving import request

        if entity is not None:
            return request.parse_entity(names.service_of(names.groups_of(self.catalog, entity)[0]), texts)
        asked = names.service(self.catalog, service) if group is None else names.service_of(names.group(self.catalog, group))
        return request.parse_entity(asked, texts)

    def predict(self, model: str, entities: object) -> list[float]:
        """What a model of the project's folder `models` says of entities, by the features that are served."""
        from serving.models import load

        found = load(self._models, self.catalog.services)
        if model not in found:
            raise UserError(f"there is no model {model!r} in {self._models}; there are {', '.join(found) or 'none'}")
        return found[model].predict(self.online(found[model].service, entities)["results"])

    def serve(
        self,
        *,
        host: str,
        port: int,
        ready: Callable[[int], None],
        serving: "Serving | None" = None,
        grpc_ready: Callable[[int], None] | None = None,
    ) -> None:
        """Answer feature requests until SIGTERM or ctrl-c; port 0 takes a free one, and `ready` is told which, `grpc_ready` that of gRPC.

        A SIGHUP takes up the definitions as they are then; if they do not hold, the old ones stay. Any address but this machine's own
        demands API keys.
        """
        from serving import server
        from serving.keys import KeysDemanded

        chosen = serving or Serving()
        if chosen.keys is None and not server.is_loopback(host):
            raise KeysDemanded(host)
        self.store_url()
        calls = None if chosen.grpc is None else server.Calls(chosen.grpc, grpc_ready or (lambda _: None))
        computes = any(service.online and service.on_demand for service in self.catalog.services.values())
        processes = server.Processes(chosen.workers, chosen.tls, self._renew, calls, "always" if computes else "of many")
        server.run(lambda: self.app(chosen), host=host, port=port, ready=ready, processes=processes)

    def app(self, serving: "Serving | None" = None) -> "Application":
        """The HTTP service as an ASGI application, for a server of your own."""
        from online_sync.store import AsyncStore
        from serving import rest
        from serving.desk import Limits
        from serving.keys import Keys

        chosen = serving or Serving()
        limits = Limits(trust=chosen.trust, stale=chosen.stale, near=chosen.near)
        guard = None if chosen.keys is None else rest.Guard(Keys(chosen.keys), lambda event: self.say(json.dumps(event)))
        store = AsyncStore(self.store_url())
        return rest.app(
            self.catalog.services, space=self._space, store=store, clock=self.clock, limits=limits, guard=guard,
            models=chosen.models or self._models, hot=Path(layout.hot_keys(str(self.settings.state))),
        )  # fmt: skip

    def store_url(self) -> str:
        """The online store's URL: the one set by HEADWATER_REDIS_URL, else the embedded store's, which is started if need be."""
        if self.settings.redis_url is not None:
            return self.settings.redis_url
        from online_sync import embedded

        return embedded.ensure(Path(layout.embedded_store(str(self.settings.state))))

    def down(self) -> bool:
        """Stop the embedded online store; its data stays. False if none was running."""
        from online_sync import embedded

        return embedded.stop(Path(layout.embedded_store(str(self.settings.state))))

    def _keep_erasure(
        self, entity: str, keys: Mapping[str, Any], *, state: Literal["erased", "lifted"]
    ) -> tuple[tuple[FeatureGroup, ...], str]:
        """Keep in the lake that an entity is erased, or is not any more; returns the groups that have it, and its `entity_text`."""
        from lake import facts
        from serving import request

        groups = names.groups_of(self.catalog, entity)
        [asked] = request.check_entities(request.compile_service(names.service_of(groups[0])), [inputs.entity(keys)])
        if None in asked.values():
            raise InputRefused(f"nobody has a null key; name the {entity} by {', '.join(asked)}")
        text = layout.entity_text([asked[key] for key in groups[0].entity.keys])
        erasure = Erasure(entity, text, self.clock(), state == "lifted")
        facts.keep_erasure(self.settings.lake, erasure, fence=self._registry.fence)
        return groups, text

    def _erased(self, group: FeatureGroup) -> frozenset[str]:
        """Whom no sync of a group may bring online."""
        from lake import facts

        return facts.erased(self.settings.lake).get(group.entity.name, frozenset())

    def _depth(self, group: FeatureGroup, depth: "Depth", target: "Target", *, erased: frozenset[str] | None) -> "Depth":
        """How deep a sync goes: it compares all rows where one of the erased is online, as the store was away when that was said."""
        if not erased or depth != "as needed":
            return depth
        from online_sync import erasing

        return "verify" if erasing.lies_online(group, erased, target=target) else depth

    @property
    def _models(self) -> Path:
        return self.settings.root / "models"

    def _online(self, groups: Sequence[str]) -> tuple[FeatureGroup, ...]:
        """The groups that go online, of those that are named or of all; one that is named and does not is refused."""
        chosen = names.groups(self.catalog, groups)
        offline = [group.name for group in chosen if not group.online]
        if groups and offline:
            raise InputRefused(f"{', '.join(offline)} has online=False: its rows are for training alone, and are not brought online")
        return tuple(group for group in chosen if group.online)

    def _target(self, space: layout.KeySpace) -> "AbstractContextManager[Target]":
        """The store, open until the end, and whose keys are meant."""
        from online_sync import sync

        return sync.Target(self.store_url(), space, self.settings.lake).kept_open()

    def _space(self) -> layout.KeySpace | None:
        """Whose keys the lake's rows have in the online store; None as long as none were ever brought there."""
        from lake import identity

        lake = identity.of(self.settings.lake)
        return None if lake is None else layout.KeySpace(self.settings.name, lake)

    def _renew(self, app: "Application") -> None:
        """Have an application answer by the definitions as they are now; what a mistake leaves out is answered by the old ones."""
        from feature_definitions.check import checked_sound

        found = checked_sound(self.settings.catalog)
        for mistake in found.left_out:
            self.say(f"the old definitions stay of what rests on it: {mistake}")
        try:
            app.take_up({**(app.services if found.left_out else {}), **found.services})
        except UserError as error:
            self.say(f"the old definitions stay: {error}")

    def _sync(self, group: FeatureGroup, target: "Target", depth: "Depth", *, at: datetime | None, limit: int | None) -> "Synced":
        """Sync a group; where another sync went on since it was asked what is published, that is asked anew, so that nothing goes back."""
        from online_sync import sync

        self.say(f"syncing {group.name}")
        for _ in range(_LOOKS - 1):
            with suppress(sync.SyncOutdated):
                return self._synced(group, target, depth, at=at, limit=limit)
        return self._synced(group, target, depth, at=at, limit=limit)

    def _synced(self, group: FeatureGroup, target: "Target", depth: "Depth", *, at: datetime | None, limit: int | None) -> "Synced":
        from online_sync import parity, sync

        before = sync.standing(group.name, target)
        if at is None and depth != "full":
            sync.in_time(before, group.name, now=self.clock())
        published = self._published([group])[group.name]
        self._whole({group.name: published})
        epoch, epochs = self._registry.next_epoch(group.name), self._registry.epochs(group.name)
        past = [each for each in epochs if each.finished]
        look = sync.look(published, target=target, now=self.clock(), last=past[-1] if past else None)
        sync.follows(before, group.name)(look.held)
        unheard = sync.ended_unheard(epochs, look)
        for each in unheard:
            self._remember(replace(each, ended_at=self.clock()))
        if past and not unheard and look.state == "as it was" and depth == "as needed":
            return sync.of_before(past[-1], look)
        if look.doubt is not None:
            self.say(f"comparing all rows of {group.name}: {look.doubt}")
        last = past[-1] if past and not unheard and past[-1].generation == published.generation else None
        told = [frozenset[str]()]

        def erased() -> frozenset[str]:
            told.append(self._erased(group))
            return told[-1]

        work = sync.Work(epoch, at or self.clock(), last, depth, sync.Ledger(self._remember, self.clock), limit, erased)
        place = {"store": target.url, "project": self.settings.name}
        with self._told(lambda of: of.of_sync(group, published.generation, self.settings.lake, **place)):
            done = sync.run(published, look, target=target, work=work, spark=lambda: self._spark)
        return replace(done, parity=parity.after(published, target=target, epoch=done.epoch, erased=told[-1]))

    def _remember(self, epoch: Epoch) -> None:
        """Remember that a sync began or ended, in the lake's records first."""
        from lake import facts

        facts.keep_epochs(self.settings.lake, [epoch], fence=self._registry.fence)
        self._registry.record_epoch(epoch)

    def _keep_past_epochs(self) -> None:
        """Keep the syncs of an older Headwater, which remembered them in the registry alone."""
        from lake import facts, storage

        if not storage.exists(layout.records_table(self.settings.lake, facts.EPOCHS.name)):
            past = (epoch for group in sorted(self._registry.online()) for epoch in self._registry.epochs(group))
            facts.keep_epochs(self.settings.lake, past, fence=self._registry.fence)
