"""Loading a catalog: imports between its files, the places of definitions, and mistakes with file and line."""

from __future__ import annotations

import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from feature_definitions.language import DefinitionError
from feature_definitions.loader import Catalog, CatalogError, Mistake, Place, load, load_sound

SOURCES = """\
from feature_definitions import Entity, Source

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "amount": "double", "paid_at": "timestamp"}, event_timestamp="paid_at")
"""
GROUP = """\
from feature_definitions import Derived, Feature, WindowedGroup

spend = WindowedGroup(
    "spend",
    entity=customer,
    source=payments,
    ttl="2d",
    features=(
        Feature("total", "sum", "amount", windows=("1d",)),
        Feature(
            name="payments",
            aggregation="count",
            windows=("1d",),
        ),
        Derived("mean", "total_1d / payments_1d"),
    ),
)
"""


class Write(Protocol):
    """Writes files below a catalog folder and returns the folder."""

    def __call__(self, files: dict[str, str], *, folder: str = "catalog") -> Path: ...


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(files: dict[str, str], *, folder: str = "catalog") -> Path:
        root = tmp_path / folder
        for name, text in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text), encoding="utf-8")
        root.mkdir(parents=True, exist_ok=True)
        return root

    return write


def mistakes(folder: Path) -> tuple[Mistake, ...]:
    with pytest.raises(CatalogError) as refused:
        load(folder)
    return refused.value.mistakes


def only_mistake(folder: Path) -> Mistake:
    (mistake,) = mistakes(folder)
    return mistake


# ------------------------------------------------------------------------------------------------------------------- imports


@pytest.mark.parametrize(
    "statement",
    [
        "from .sources import customer, payments",
        "from sources import customer, payments",
        "from catalog.sources import customer, payments",
        "from . import sources\ncustomer, payments = sources.customer, sources.payments",
        "import sources\ncustomer, payments = sources.customer, sources.payments",
        "import catalog.sources\ncustomer, payments = catalog.sources.customer, catalog.sources.payments",
        "import catalog.sources as raw\ncustomer, payments = raw.customer, raw.payments",
        "from catalog import sources\ncustomer, payments = sources.customer, sources.payments",
        "from .sources import *",
    ],
)
def test_a_file_may_import_another_in_any_way(write: Write, statement: str) -> None:
    catalog = load(write({"sources.py": SOURCES, "spend.py": f"{statement}\n{GROUP}", "a_first.py": f"{statement}\n"}))
    assert catalog.groups["spend"].source is catalog.sources["payments"]
    assert list(catalog.sources) == ["payments"]


@pytest.mark.parametrize(
    "statement",
    [
        "from .flights.sources import customer, payments",
        "from flights.sources import customer, payments",
        "from catalog.flights.sources import customer, payments",
        "import flights.sources\ncustomer, payments = flights.sources.customer, flights.sources.payments",
        "from .flights import sources\ncustomer, payments = sources.customer, sources.payments",
    ],
)
@pytest.mark.parametrize("package", [{}, {"flights/__init__.py": ""}, {"__init__.py": "", "flights/__init__.py": "from . import sources"}])
def test_a_file_may_import_from_a_subfolder(write: Write, statement: str, package: dict[str, str]) -> None:
    catalog = load(write({**package, "flights/sources.py": SOURCES, "spend.py": f"{statement}\n{GROUP}"}))
    assert catalog.groups["spend"].source is catalog.sources["payments"]
    assert catalog.origin_of("source", "payments").file.name == "sources.py"


@pytest.mark.parametrize("statement", ["from ..sources import customer, payments", "from .sources import customer, payments"])
def test_a_file_in_a_subfolder_may_import_relatively(write: Write, statement: str) -> None:
    at = "sources.py" if ".." in statement else "flights/sources.py"
    catalog = load(write({at: SOURCES, "flights/spend.py": f"{statement}\n{GROUP}"}))
    assert catalog.groups["spend"].source is catalog.sources["payments"]


def test_a_catalog_inside_a_package_may_name_itself_in_full(write: Write) -> None:
    write({"__init__.py": ""}, folder="ours")
    folder = write(
        {"sources.py": SOURCES, "spend.py": f"from ours.catalog.sources import customer, payments\n{GROUP}"}, folder="ours/catalog"
    )
    catalog = load(folder)
    assert catalog.groups["spend"].source is catalog.sources["payments"]


def test_each_file_is_executed_once(write: Write) -> None:
    count = "import sys\nsys.headwater_test_count = getattr(sys, 'headwater_test_count', 0) + 1\n"
    imports = "from .sources import payments\nfrom sources import payments\nfrom catalog.sources import payments\n"
    try:
        load(write({"sources.py": count + SOURCES, "a.py": imports, "z.py": imports}))
        assert vars(sys)["headwater_test_count"] == 1
    finally:
        vars(sys).pop("headwater_test_count", None)


def test_a_package_is_executed_before_what_lies_in_it(write: Write) -> None:
    catalog = load(write({"__init__.py": SOURCES, "spend.py": f"from . import customer, payments\n{GROUP}"}))
    assert catalog.groups["spend"].source is catalog.sources["payments"]


def test_names_with_an_underscore_are_not_loaded_but_may_be_imported(write: Write) -> None:
    broken = "raise RuntimeError('executed')"
    files = {
        "_shared.py": SOURCES,
        "_broken.py": broken,
        "_old/broken.py": broken,
        "__pycache__/broken.py": broken,
        ".hidden/broken.py": broken,
        "spend.py": f"from ._shared import customer, payments\n{GROUP}",
    }
    assert list(load(write(files)).groups) == ["spend"]


def test_a_function_of_the_catalog_may_import_when_it_is_called_later(write: Write) -> None:
    later = "import sys\ndef source():\n    from .sources import payments\n    return payments\nsys.headwater_test_function = source\n"
    try:
        catalog = load(write({"sources.py": SOURCES, "later.py": later}))
        assert vars(sys)["headwater_test_function"]() is catalog.sources["payments"]
    finally:
        vars(sys).pop("headwater_test_function", None)


def test_a_file_named_like_a_module_of_python_hides_nothing(write: Write) -> None:
    clock = "import time\nfrom types import MappingProxyType\nimport json\nassert time.time and json.dumps\n"
    files = {"types.py": SOURCES, "time.py": "x = 1\n", "spend.py": f"{clock}from .types import customer, payments\n{GROUP}"}
    assert load(write(files)).groups["spend"].source.name == "payments"


def test_a_file_named_like_an_installed_module_may_import_that_module(write: Write) -> None:
    files = {"sources.py": SOURCES, "hypothesis.py": "import hypothesis\nassert hypothesis.given\n", "sqlglot.py": "x = 1\n"}
    others = "from feature_definitions.sql import expressions\nassert expressions.columns_in('a') == {'a'}\n"
    assert load(write({**files, "z.py": others})).sources["payments"].name == "payments"


def test_what_python_remembers_is_as_before(write: Write) -> None:
    modules, path, bytecode = dict(sys.modules), list(sys.path), sys.dont_write_bytecode
    change = "import sys\nsys.path.append('/nowhere')\n"
    folder = write({"sources.py": change + SOURCES, "flights/spend.py": f"from sources import customer, payments\n{GROUP}"})
    load(folder)
    assert sys.modules == modules
    assert sys.path == path
    assert sys.dont_write_bytecode == bytecode
    assert not [*folder.rglob("*.pyc"), *folder.rglob("__pycache__")]


def test_what_python_remembers_is_as_before_after_mistakes_too(write: Write) -> None:
    modules, path = dict(sys.modules), list(sys.path)
    mistakes(write({"a.py": "import sys\nsys.path.append('/nowhere')\n1 / 0", "sources.py": SOURCES}))
    assert sys.modules == modules
    assert sys.path == path


def test_two_projects_do_not_mix(write: Write) -> None:
    one = write({"sources.py": SOURCES, "spend.py": f"from catalog.sources import customer, payments\n{GROUP}"}, folder="one/catalog")
    other = write({"sources.py": SOURCES.replace('"payments"', '"orders"')}, folder="other/catalog")
    write({"spend.py": f"from catalog.sources import customer, payments\n{GROUP}"}, folder="other/catalog")
    assert load(one).groups["spend"].source.name == "payments"
    assert load(other).groups["spend"].source.name == "orders"
    assert load(one).groups["spend"].source.name == "payments"


def test_two_threads_that_load_at_once_do_not_mix(write: Write) -> None:
    wait = "import time\ntime.sleep(0.01)\n"
    spend = f"from catalog.sources import customer, payments\n{wait}{GROUP}"
    names = [f"raw_{number}" for number in range(8)]
    folders = [
        write({"sources.py": wait + SOURCES.replace('"payments"', f'"{name}"'), "spend.py": spend}, folder=f"{name}/catalog")
        for name in names
    ]
    modules, finders = dict(sys.modules), list(sys.meta_path)
    with ThreadPoolExecutor(4) as threads:
        assert [catalog.groups["spend"].source.name for catalog in threads.map(load, folders)] == names
    assert (sys.modules, sys.meta_path) == (modules, finders)


def test_threads_may_call_a_function_that_imports_later(write: Write) -> None:
    later = (
        "import sys\ndef source():\n    from catalog.sources import payments\n    return payments\nsys.headwater_test_function = source\n"
    )
    try:
        catalog = load(write({"sources.py": SOURCES, "later.py": later}))
        modules, finders = dict(sys.modules), list(sys.meta_path)
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: vars(sys)["headwater_test_function"](), range(200)))
        assert all(source is catalog.sources["payments"] for source in found)
        assert (sys.modules, sys.meta_path) == (modules, finders)
    finally:
        vars(sys).pop("headwater_test_function", None)


def test_a_dataclass_may_be_defined_in_a_catalog(write: Write) -> None:
    record = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Pair:\n    a: int\nassert Pair(1).a\n"
    )
    assert load(write({"sources.py": record + SOURCES})).sources["payments"].name == "payments"


# --------------------------------------------------------------------------------------------------------------- definitions


def test_every_kind_of_definition_is_found(write: Write) -> None:
    services = """
        from feature_definitions import FeatureService, Join, TrainingSet
        from .sources import payments
        from .spend import spend
        both = (FeatureService("one", joins=(Join(spend),)), [FeatureService("two", joins=(Join(spend, prefix="p"),))])
        training = TrainingSet("train", spine=payments, service=both[0])
    """
    files = {"sources.py": SOURCES, "spend.py": f"from .sources import customer, payments\n{GROUP}", "services.py": services}
    catalog = load(write(files))
    assert isinstance(catalog, Catalog)
    assert (list(catalog.entities), list(catalog.sources), list(catalog.groups)) == (["customer"], ["payments"], ["spend"])
    assert (list(catalog.services), list(catalog.training_sets)) == (["one", "two"], ["train"])


def test_what_a_definition_is_made_of_belongs_to_the_catalog_though_nobody_named_it(write: Write) -> None:
    inline = """
        from feature_definitions import Entity, Feature, FeatureService, Join, Source, WindowedGroup
        service = FeatureService("s", joins=(Join(WindowedGroup("g", entity=Entity("e", keys={"k": "string"}),
            source=Source("raw", columns={"k": "string", "at": "timestamp"}, event_timestamp="at"),
            ttl="2d", features=(Feature("n", "count", windows=("1d",)),))),))
    """
    folder = write({"service.py": inline})
    catalog = load(folder)
    assert (list(catalog.entities), list(catalog.sources), list(catalog.groups)) == (["e"], ["raw"], ["g"])
    assert catalog.origin_of("source", "raw") == Place(folder / "service.py", 3)


def test_places_are_where_definitions_are_written_not_where_they_are_imported(write: Write) -> None:
    folder = write({"z_sources.py": SOURCES, "a_spend.py": f"from .z_sources import customer, payments\n{GROUP}"})
    catalog = load(folder)
    assert catalog.origin_of("entity", "customer") == Place(folder / "z_sources.py", 3)
    assert catalog.origin_of("source", "payments") == Place(folder / "z_sources.py", 4)
    assert catalog.origin_of("group", "spend") == Place(folder / "a_spend.py", 4)


def test_an_alias_does_not_move_a_definition(write: Write) -> None:
    folder = write({"a.py": "from .sources import customer\nalias = customer\n", "sources.py": SOURCES + "again = customer\n"})
    assert load(folder).origin_of("entity", "customer") == Place(folder / "sources.py", 3)


def test_features_have_their_own_lines(write: Write) -> None:
    folder = write({"spend.py": SOURCES + GROUP})
    catalog = load(folder)
    lines = [catalog.origin_of("group", "spend", feature).line for feature in ("total", "payments", "mean", "unknown")]
    assert lines == [13, 14, 19, 7]


def test_features_of_one_name_in_two_groups_have_the_lines_of_their_group(write: Write) -> None:
    catalog = load(write({"spend.py": SOURCES + GROUP + GROUP.replace('"spend"', '"again"').replace("spend =", "again =")}))
    assert [catalog.origin_of("group", group, "total").line for group in ("spend", "again")] == [13, 30]


def test_features_written_apart_from_their_group_have_their_own_lines(write: Write) -> None:
    apart = GROUP.replace('        Feature("total", "sum", "amount", windows=("1d",)),', "        total,")
    folder = write(
        {
            "spend.py": SOURCES
            + 'from feature_definitions import Feature\ntotal = Feature("total", "sum", "amount", windows=("1d",))\n'
            + apart
        }
    )
    assert load(folder).origin_of("group", "spend", "total").line == 6


def test_definitions_in_a_loop_or_a_condition_have_a_line(write: Write) -> None:
    loop = """
        if True:
            raw = [Source(f"raw_{i}", columns={"k": "string", "at": "timestamp"}, event_timestamp="at") for i in range(2)]
    """
    folder = write({"sources.py": "from feature_definitions import Source" + textwrap.dedent(loop)})
    catalog = load(folder)
    assert catalog.origin_of("source", "raw_0") == catalog.origin_of("source", "raw_1") == Place(folder / "sources.py", 3)


def test_definitions_come_in_the_order_of_files_and_lines(write: Write) -> None:
    entity = (
        'from feature_definitions import Entity\nx = Entity("{0}2", keys={{"k": "string"}})\na = Entity("{0}1", keys={{"k": "string"}})\n'
    )
    assert list(load(write({"b.py": entity.format("b"), "a/z.py": entity.format("a")})).entities) == ["a2", "a1", "b2", "b1"]


# ------------------------------------------------------------------------------------------------------------------- mistakes


def test_two_definitions_with_one_name_are_told_with_both_places(write: Write) -> None:
    folder = write({"a.py": SOURCES, "b.py": SOURCES})
    first, second = mistakes(folder)
    assert (first.file, first.line, second.line) == (folder / "b.py", 3, 4)
    assert first.message == f"entity customer is already defined at {folder / 'a.py'}:3; rename one, or define it once and import it"
    assert second.message.startswith(f"source payments is already defined at {folder / 'a.py'}:4;")


def test_one_name_for_two_kinds_is_no_mistake_but_for_a_group_and_a_source(write: Write) -> None:
    both = SOURCES + GROUP.replace('"spend"', '"payments"').replace('name="payments"', 'name="n"').replace("payments_1d", "n_1d")
    folder = write({"all.py": both.replace('"customer"', '"payments"')})
    mistake = only_mistake(folder)
    assert (mistake.file, mistake.line) == (folder / "all.py", 7)
    assert mistake.message == f"group payments has the name of the source at {folder / 'all.py'}:4; rename one of them"


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    assert (
        str(only_mistake(tmp_path / "none")) == f"{tmp_path / 'none'}: there is no such folder; it should hold the catalog's Python files"
    )


@pytest.mark.parametrize("files", [{}, {"__init__.py": ""}, {"README.md": "x"}, {"_draft.py": SOURCES}, {"numbers_only.py": "x = 1"}])
def test_a_folder_that_defines_nothing_is_one_clear_error(write: Write, files: dict[str, str]) -> None:
    folder = write(files)
    assert str(only_mistake(folder)).startswith(f"{folder}: nothing is defined here; write a source")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ny = = 2\n", 2, "this is not Python: invalid syntax"),
        ("def f(:\n", 1, "this is not Python"),
        ("x = '\n", 1, "this is not Python: unterminated string literal"),
        ("\n1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("x = 1\nraise SystemExit\n", 2, "SystemExit"),
        ("x = 1\n\nEntity('x', keys={})\n", 3, "NameError: name 'Entity' is not defined"),
        ("import no_such_module\n", 1, "No module named 'no_such_module'"),
        ("x = 1\nfrom .sorces import payments\n", 2, "No module named 'catalog.sorces'; did you mean 'sources'?"),
        ("import sorces\n", 1, "No module named 'sorces'; did you mean 'sources'?"),
        ("from .sources import paymnts\n", 1, "did you mean 'payments'?"),
        ("from ..sources import payments\n", 1, "leaves the catalog's folder; write fewer dots"),
        ("from feature_definitions import Featur\n", 1, "did you mean 'Feature'?"),
        ("from feature_definitions import Entity\nx = Entity('X', keys={'k': 'string'})\n", 2, "'X' cannot name a entity"),
        (
            "from feature_definitions import Feature\nx = Feature('x', 'count', window='1d')\n",
            2,
            "Feature has no 'window'; did you mean 'windows'?",
        ),
        ("def f():\n    raise ValueError('no')\n\nf()\n", 2, "ValueError: no"),
        ("from .types import nothing\n", 1, "cannot import name 'nothing' from 'catalog.types'"),
        ("from types import payments\n", 1, "That is Python's own types; write `from .types import ...` for the catalog's"),
    ],
)
def test_a_malformed_file_is_told_with_its_line(write: Write, text: str, line: int, message: str) -> None:
    folder = write({"sources.py": SOURCES, "types.py": "x = 1\n", "wrong.py": text})
    mistake = only_mistake(folder)
    assert (mistake.file, mistake.line) == (folder / "wrong.py", line)
    assert message in mistake.message
    assert "headwater_catalog" not in mistake.message


def test_a_file_of_other_bytes_is_one_mistake(write: Write) -> None:
    folder = write({"sources.py": SOURCES})
    (folder / "binary.py").write_bytes(b"\x00\xff\xfe")
    assert only_mistake(folder).file == folder / "binary.py"


def test_a_wrong_definition_is_told_at_the_line_of_the_call_that_made_it(write: Write) -> None:
    wrong = SOURCES + GROUP.replace('"sum", "amount"', '"summ", "amount"')
    mistake = only_mistake(write({"spend.py": wrong}))
    assert mistake.line == 13
    assert mistake.message.startswith("feature total has the aggregation 'summ'; there are count, sum")
    assert mistake.message.endswith("Did you mean 'sum'?")


def test_a_feature_that_does_not_fit_its_group_is_told_at_the_features_line(write: Write) -> None:
    mistake = only_mistake(write({"spend.py": SOURCES + GROUP.replace('"count",', '"count", of="colour",')}))
    assert mistake.line == 14
    assert mistake.message.startswith("spend.payments: there is no column 'colour'")


def test_an_error_below_a_helper_is_told_where_it_arose(write: Write) -> None:
    helper = "from feature_definitions import Entity\ndef make(name):\n    return Entity(name, keys={})\n"
    folder = write({"making.py": helper, "entities.py": "from .making import make\nx = make('x')\n"})
    mistake = only_mistake(folder)
    assert (mistake.file, mistake.line) == (folder / "making.py", 3)


def test_all_files_are_tried_and_only_causes_are_told(write: Write) -> None:
    files = {
        "a.py": f"from .sources import customer, payments\n{GROUP}",
        "b.py": "1 / 0",
        "c.py": "from .b import x",
        "d.py": "from c import y",
        "sources.py": SOURCES + "oops\n",
        "z.py": "x = = 1",
    }
    folder = write(files)
    found = mistakes(folder)
    assert [(m.file.name, m.line) for m in found] == [("b.py", 1), ("sources.py", 5), ("z.py", 1)]


def test_files_that_import_each_other_are_told_so(write: Write) -> None:
    folder = write({"a.py": "from .b import y\nx = 1\n", "b.py": "from .a import x\ny = 1\n"})
    mistake = only_mistake(folder)
    assert (mistake.file, mistake.line) == (folder / "b.py", 1)
    assert "These files import each other; move what both need into a third one" in mistake.message


def test_files_that_python_can_not_name_are_told(write: Write) -> None:
    folder = write({"sources.py": SOURCES, "my.group.py": "x = 1", "flights.py": "x = 1", "flights/__init__.py": ""})
    clash, dotted = mistakes(folder)
    assert str(clash) == f"{folder / 'flights.py'}: flights.py and flights/__init__.py are one module to Python; rename one of them"
    assert str(dotted) == f"{folder / 'my.group.py'}: a dot in its name keeps it from being imported; write _ instead"


def test_the_error_lists_every_mistake_on_a_line_of_its_own(write: Write) -> None:
    folder = write({"b.py": "\n\n1 / 0", "a.py": "x = = 1"})
    with pytest.raises(DefinitionError) as refused:
        load(folder)
    assert str(refused.value).splitlines() == [
        f"{folder / 'a.py'}:1: this is not Python: invalid syntax",
        f"{folder / 'b.py'}:3: ZeroDivisionError: division by zero",
    ]


def test_a_relative_folder_gives_relative_places(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"sources.py": SOURCES, "spend.py": f"from catalog.sources import customer, payments\n{GROUP}"})
    monkeypatch.chdir(tmp_path)
    assert str(load(Path("catalog")).origin_of("group", "spend").file) == "catalog/spend.py"
    monkeypatch.chdir(tmp_path / "catalog")
    assert load(Path()).groups["spend"].name == "spend"


def test_every_feature_that_does_not_fit_is_told_at_its_own_line(write: Write) -> None:
    wrong = GROUP.replace('"sum", "amount"', '"sum", "colour"').replace('"count",', '"count", of="size",')
    found = mistakes(write({"spend.py": SOURCES + wrong}))
    assert [(m.line, m.message.partition(".")[2].partition(":")[0]) for m in found] == [(13, "total"), (14, "payments")]


def test_transforms_and_the_sources_of_queries_are_part_of_the_catalog(write: Write) -> None:
    text = """
        from feature_definitions import Entity, Query, Source, TransformGroup, WindowedGroup
        columns = {"customer_id": "int64", "paid_at": "timestamp"}
        raw = [Source("raw", columns=columns, event_timestamp="paid_at")]
        large = Query("select customer_id, paid_at from raw", sources=raw)
        risk = TransformGroup(
            "risk", Entity("customer", keys={"customer_id": "int64"}), Source("large", large, columns, "paid_at"),
            sql="select 1", lookback="7d", schema={"score": "double"}, ttl="2d",
        )
    """
    catalog = load(write({"risk.py": text}))
    assert (list(catalog.sources), list(catalog.transforms), list(catalog.groups)) == (["raw", "large"], ["risk"], [])
    assert list(catalog.entities) == ["customer"]
    assert catalog.origin_of("group", "risk").line == 6


def test_a_transform_and_a_group_do_not_share_a_name(write: Write) -> None:
    text = (
        "from feature_definitions import TransformGroup\n"
        "other = TransformGroup('spend', customer, payments, sql='s', lookback='7d', schema={'x': 'double'}, ttl='2d')\n"
    )
    (mistake,) = mistakes(write({"spend.py": SOURCES + GROUP + text}))
    assert "group spend is already defined at" in mistake.message


def test_what_rests_on_no_mistake_can_be_used_and_the_mistakes_are_told(write: Write) -> None:
    other = GROUP.replace('"spend"', '"other"').replace("spend = ", "other = ")
    folder = write(
        {
            "sources.py": SOURCES,
            "sound.py": f"from .sources import customer, payments\n{GROUP}",
            "broken.py": "clicks = = 1",
            "rests_on_it.py": f"from .sources import customer\nfrom .broken import payments\n{other}",
        }
    )
    found = load_sound(folder)
    assert (set(found.groups), set(found.sources)) == ({"spend"}, {"payments"})
    assert [(mistake.file.name, mistake.line) for mistake in found.left_out] == [("broken.py", 1)]


def test_of_two_definitions_with_one_name_the_second_is_left_out_with_what_rests_on_it(write: Write) -> None:
    second = SOURCES.replace("customer = ", "buyer = ").replace('"customer"', '"buyer"') + GROUP.replace("entity=customer", "entity=buyer")
    found = load_sound(write({"a.py": SOURCES, "b.py": second}))
    assert (set(found.entities), set(found.sources), set(found.groups)) == ({"customer", "buyer"}, {"payments"}, set())
    assert [mistake.file.name for mistake in found.left_out] == ["b.py"]


def test_a_sound_catalog_leaves_nothing_out(write: Write) -> None:
    folder = write({"shop.py": SOURCES + GROUP})
    assert load_sound(folder).left_out == ()
    assert set(load_sound(folder).groups) == set(load(folder).groups)


def test_a_file_without_a_name_for_python_leaves_the_others_in_use(write: Write) -> None:
    found = load_sound(write({"shop.py": SOURCES + GROUP, "my.draft.py": "x = 1\n"}))
    assert (set(found.groups), [mistake.file.name for mistake in found.left_out]) == ({"spend"}, ["my.draft.py"])
