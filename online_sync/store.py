"""The online store's rules: which sync may write a row, what an epoch record says and when, whose a project's rows are, what is old.

A sync begins by taking an epoch, greater than all before (`begin_epoch`), and ends by publishing its record (`publish_epoch`); both change
the record alone, by compare-and-set. A row is fenced by the epoch that it carries: it is written where no row of a later one lies. So no
step needs two keys at once, and in a cluster a row and its record may lie on two servers.

A sync that was overtaken by a later one cannot spoil it. If the last sync that began had finished, nobody writes any more, and rows that
are the same stay as they are. Else the later sync writes every row, whatever lies there, and its record says so: readers take rows of an
epoch before the record's `floor` for absent. What the overtaken one still writes is refused where the later one wrote, and is below the
floor everywhere else; its record is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from feature_definitions import layout
from feature_definitions.layout import KeySpace
from online_sync import checks
from online_sync.checks import Looked
from online_sync.codec import EPOCH_END, EPOCH_START, FLAGS, TOMBSTONE, CodecError, EpochRecord, decode_epoch, encode_epoch
from online_sync.servers import KEYS_PER_CALL, AsyncServers, Script, Servers, StoreUnavailable

_ATTEMPTS = 10

GONE, OTHER, BELOW = WRITTEN = "gor"
"""What is said of a row that was written: nothing lay there, another one did, or the same one below the floor."""
SAME, LATER, OLDER, UNSURE, DROPPED = "slnud"
"""What is said of one that was not: it lies there already; a row of a later epoch does; it is older than what lies there, or than a
tombstone, so that the lake must be asked; of a key that it was deleted."""

Rule = Literal["replace", "unless older"]
"""Which rows are written: all that differ from what lies there, or those that are not older."""

_TOMBSTONE_SECONDS = 7 * 86_400
"""How long a tombstone lies there: then its key is gone, which readers take for the same."""

# A row's epoch: its tag (25) and 64 bits, of which Lua's numbers hold the 53 that are used.
_EPOCH = f"""
local function epoch(row)
  if #row < {EPOCH_END} or string.byte(row, {EPOCH_START + 1}) ~= 25 then return -1 end
  local low, high = struct.unpack('<I4I4', row, {EPOCH_START + 2})
  return high * 4294967296 + low
end
local done = {{}}
"""
# Each row is compared with what lies there, whichever epoch wrote that: first by its times, which mostly differ where anything does. Times
# are compared as two halves, as Lua's numbers hold 53 bits. MGET says of a key that is no text what it says of none, as to readers: no row
# lies there, and SET puts one in its place.
_PUT_ROWS = Script(f"""{_EPOCH}
local floor, unless_older, lasting = tonumber(ARGV[#KEYS + 1]), ARGV[#KEYS + 2] == '{"unless older"}', ARGV[#KEYS + 3]
local function gone(row) return (string.byte(row, {FLAGS + 1}) or 0) >= {TOMBSTONE} end
local function older(a, b)
  local low, high = struct.unpack('<I4i4', a, 2)
  local other_low, other_high = struct.unpack('<I4i4', b, 2)
  return high < other_high or (high == other_high and low < other_low)
end
local function same(a, b)
  return string.sub(a, 1, {EPOCH_START}) == string.sub(b, 1, {EPOCH_START})
    and string.sub(a, {EPOCH_END + 1}) == string.sub(b, {EPOCH_END + 1})
end
local function beside(row, kept)
  local before = epoch(kept)
  if before > epoch(row) then return '{LATER}' end
  if same(kept, row) then return before < floor and '{WRITTEN[2]}' or '{SAME}' end
  if unless_older and before >= floor and before >= 0 and older(row, kept) then return gone(kept) and '{UNSURE}' or '{OLDER}' end
  return '{WRITTEN[1]}'
end
local found = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  local row, kept = ARGV[i], found[i]
  local dead = gone(row)
  local said = kept and beside(row, kept) or (dead and '{SAME}' or '{WRITTEN[0]}')
  done[i] = said
  if said == '{WRITTEN[0]}' or said == '{WRITTEN[1]}' or said == '{WRITTEN[2]}' then
    if dead then redis.call('SET', key, row, 'EX', lasting) else redis.call('SET', key, row) end
  end
end
return table.concat(done)
""")
_DROP_BEFORE = Script(f"""{_EPOCH}
for i, key in ipairs(KEYS) do
  local head = redis.pcall('GETRANGE', key, 0, {EPOCH_END - 1})
  local kept = type(head) == 'string' and epoch(head) or -1
  done[i] = kept < tonumber(ARGV[i]) and redis.call('UNLINK', key) == 1 and '{DROPPED}' or '{SAME}'
end
return table.concat(done)
""")

_Change: TypeAlias = Callable[[EpochRecord | None], EpochRecord | None]


@dataclass(frozen=True, slots=True)
class Owner:
    """From which lake a project's rows come, where that lay when it was first synced, and which keys still have to be swept.

    `sweep`: `older` are keys as they were before they named a lake, `others` also those of other lakes.
    """

    lake: str
    place: str
    sweep: Literal["", "older", "others"] = ""


class Store(Servers):
    """A connection to the online store for jobs and commands; `patience` is how many seconds an answer may take."""

    _filling = False
    """Whether nothing lay under the keys that were written last, so that nothing may lie under the next."""

    def put_rows(self, rows: Sequence[tuple[str, bytes]], *, rule: Rule = "replace", floor: int = 0) -> str:
        """Write packed rows under their keys, each once, and say of each by a letter what was done (`WRITTEN`, or one of the others).

        One that lies there already, from the epoch `floor` on, is left alone, and so is a row of a later epoch. Tombstones go by
        themselves after a week.
        """
        rounds = (rows[start : start + KEYS_PER_CALL] for start in range(0, len(rows), KEYS_PER_CALL))
        return "".join(self._put_round(some, rule, floor) for some in rounds)

    def _put_round(self, rows: Sequence[tuple[str, bytes]], rule: Rule, floor: int) -> str:
        """While a store is filled, rows are put where nothing lies first: only those that did not go are compared with what does."""
        put = self.put_new(rows) if self._filling and not any(row[FLAGS] >= TOMBSTONE for _, row in rows) else [False] * len(rows)
        rest = [row for row, done in zip(rows, put, strict=True) if not done]
        if not rest:
            return GONE * len(rows)
        said = self.run(_PUT_ROWS, rest, floor, rule, _TOMBSTONE_SECONDS)
        self._filling = said.count(GONE) == len(said)
        letters = iter(said)
        return "".join(GONE if done else next(letters) for done in put)

    def read_epoch(self, space: KeySpace, group: str) -> EpochRecord | None:
        """The group's epoch record; its `epoch` is 0 while its first sync runs. A damaged one counts as none: the next sync repairs it."""
        return _readable(self.mget([layout.epoch_key(space, group)])[0])

    def begin_epoch(
        self,
        coming: EpochRecord,
        *,
        rewrite: Literal["where others differ", "every row"] = "where others differ",
        check: Callable[[EpochRecord | None], None] = lambda _: None,
    ) -> EpochRecord:
        """Announce a sync and give it its epoch, `coming.epoch` or a greater one: every sync that began before is overtaken by it.

        Returns the record that the sync publishes at its end. Rows of epochs before its `floor` count for nothing: the sync must write
        what has none. Readers know the schema of the rows to come from now on. `check` raises where the sync may not follow a record.
        """
        made = coming

        def begun(old: EpochRecord | None) -> EpochRecord:
            nonlocal made
            check(old)
            epoch = coming.epoch if old is None else max(coming.epoch, 1 + old.begun)
            whole = old is None or old.begun != old.epoch or old.generation != coming.generation or rewrite == "every row"
            left = whole and coming.epoch > 1 if old is None else whole or old.unswept
            made = replace(coming, epoch=epoch, begun=epoch, floor=epoch if whole or old is None else old.floor, unswept=left)
            if old is None or not old.epoch:
                return replace(made, epoch=0)
            return replace(old, begun=epoch, by=made.by, also=_other_columns(old, made, keep=old))

        self._change(coming.space, coming.group, begun)
        return made

    def publish_epoch(self, record: EpochRecord) -> bool:
        """Make a finished sync known to readers; False, and nothing changed, if a later one has begun, or the record is gone."""

        def published(old: EpochRecord | None) -> EpochRecord | None:
            if old is None or not is_under_way(record, old):
                return None
            return replace(record, also=_other_columns(old, record, keep=record) if old.generation == record.generation else ())

        return self._change(record.space, record.group, published)

    def looked(self, space: KeySpace, group: str) -> Looked | None:
        """What the last sync of a group saw; None if that is not known any more."""
        return checks.decode(self.mget([layout.looked_key(space, group)])[0])

    def put_looked(self, space: KeySpace, group: str, looked: Looked) -> None:
        """Remember what a sync saw."""
        self.put(layout.looked_key(space, group), checks.encode(looked))

    def owner(self, project: str) -> Owner | None:
        """From which lake the project's rows come; None if none were brought yet."""
        return _read_owner(self.mget([layout.owner_key(project)])[0], project)

    def projects_of(self, lake: str) -> list[str]:
        """The projects whose rows come from a lake, without those whose keys the user may not read."""
        found = []
        for key in (key for keys in self.keys(layout.owner_key("*")) for key in keys):
            project = key.removeprefix("hw:").removesuffix(":lake")
            with suppress(StoreUnavailable, CodecError):
                owner = self.owner(project)
                found += [project] if owner is not None and owner.lake == lake else []
        return sorted(found)

    def claim(self, space: KeySpace, *, place: str, instead_of: Owner | None) -> bool:
        """Say that the project's rows come from this lake, in place of another one or of none; False if somebody else came first."""
        claimed = Owner(space.lake, place, "older" if instead_of is None else "others")
        return self.swap(layout.owner_key(space.project), _owner(instead_of), _owner(claimed) or b"")

    def sweep(self, space: KeySpace, records: Sequence[EpochRecord]) -> int:
        """Delete what nobody reads any more, and say how many keys that were: of the groups of these records, which have just been
        published, rows of other generations and those below the floor, unless a later sync wrote them; of the project, what its owner
        says. Groups that have no record here are left alone.
        """
        owner, finished, swept = self.owner(space.project), {record.group: record for record in records}, 0
        for keys in self.keys(layout.online_keys(space.project)):
            if owner is None or owner.lake != space.lake:
                return swept
            found = [(key, known) for key in keys if (known := layout.online_key(key, space.project)) is not None]
            swept += self.unlink([key for key, known in found if _is_others(known, owner)])
            bounds = [(key, _bound(known, finished.get(known.group))) for key, known in found if known.lake == space.lake]
            swept += self.run(_DROP_BEFORE, [(key, str(bound).encode()) for key, bound in bounds if bound]).count(DROPPED)
            owner = self.owner(space.project)
        if owner is not None and owner.sweep:
            self.swap(layout.owner_key(space.project), _owner(owner), _owner(replace(owner, sweep="")) or b"")
        for record in records:
            self._change(space, record.group, partial(_swept, mine=record))
        return swept

    def withdraw(self, space: KeySpace, group: str) -> int:
        """Delete all rows of a group, of this lake, and then its record; returns how many keys that were."""
        gone = 0
        for keys in self.keys(layout.online_keys(space.project)):
            found = [(key, known) for key in keys if (known := layout.online_key(key, space.project)) is not None]
            gone += self.unlink([key for key, of in found if (of.lake, of.group) == (space.lake, group) and of.generation is not None])
        return gone + self.unlink([layout.looked_key(space, group), layout.epoch_key(space, group)])

    def _change(self, space: KeySpace, group: str, change: _Change) -> bool:
        """Change a group's epoch record by what lies there; False if the change says that nothing is to be done."""
        key = layout.epoch_key(space, group)
        for _ in range(_ATTEMPTS):
            data = self.mget([key])[0]
            new = change(_readable(data))
            if new is None:
                return False
            if self.swap(key, data, encode_epoch(new)):
                return True
        raise StoreUnavailable(f"the epoch record of {group} at {self.address} keeps changing; does another sync run?")


class AsyncStore(AsyncServers):
    """The online store as serving reads it."""

    async def owner(self, project: str) -> Owner | None:
        """From which lake the project's rows come; None if none were brought yet."""
        return _read_owner((await self.mget([layout.owner_key(project)]))[0], project)


def is_under_way(record: EpochRecord, kept: EpochRecord) -> bool:
    """Whether the sync that will publish a record is the last that began, by what the store keeps of the group."""
    return (kept.begun, kept.by) == (record.epoch, record.by)


def _swept(old: EpochRecord | None, *, mine: EpochRecord) -> EpochRecord | None:
    return replace(old, unswept=False) if old is not None and old.unswept and old.epoch == mine.epoch else None


def _is_others(known: layout.OnlineKey, owner: Owner) -> bool:
    """Whether a key is of another lake, or named none, and its owner said that such keys go."""
    return bool(owner.sweep) if known.lake is None else owner.sweep == "others" and known.lake != owner.lake


def _bound(known: layout.OnlineKey, record: EpochRecord | None) -> int:
    """Before which epoch a row is nobody's: in the generation that readers see before the floor, in others before the sync."""
    if record is None or known.generation is None:
        return 0
    return record.floor if known.generation == record.generation else record.epoch


def _owner(owner: Owner | None) -> bytes | None:
    said = None if owner is None else {"lake": owner.lake, "place": owner.place, "sweep": owner.sweep}
    return None if said is None else json.dumps(said, sort_keys=True).encode()


def _read_owner(data: bytes | None, project: str) -> Owner | None:
    if data is None:
        return None
    try:
        said: Mapping[str, str] = json.loads(data)
        return Owner(said["lake"], said["place"], said["sweep"])  # type: ignore[arg-type]  # one of the three
    except (ValueError, TypeError, KeyError):
        raise CodecError(
            f"the store's record of the lake that the rows of {project} come from cannot be read; delete the key "
            f"{layout.owner_key(project)} and sync again"
        ) from None


def _readable(data: bytes | None) -> EpochRecord | None:
    try:
        return None if data is None else decode_epoch(data)
    except CodecError:
        return None


def _other_columns(old: EpochRecord, new: EpochRecord, *, keep: EpochRecord) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Every schema that rows may have beside that of `keep`, each once."""
    return tuple(columns for columns in dict.fromkeys((new.columns, old.columns, *old.also)) if columns != keep.columns)
