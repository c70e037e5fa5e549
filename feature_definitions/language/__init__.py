"""The definition language: frozen values that say what features mean. Whatever could be built is valid on its own.

What needs SQL or the whole catalog (columns inside expressions, cycles, names across files) is checked by `feature_definitions.check`.
"""

from feature_definitions.language.columns import Column, Epoch
from feature_definitions.language.databases import Jdbc
from feature_definitions.language.expect import (
    Expectation,
    Severity,
    at_least,
    at_most,
    between,
    expression,
    mean_between,
    not_null,
    one_of,
    quantile_between,
    row_count,
    unique,
)
from feature_definitions.language.features import Derived, Feature, Rows
from feature_definitions.language.file_formats import Csv, Files
from feature_definitions.language.group_rules import AnyGroup
from feature_definitions.language.groups import ObservationGroup, SnapshotGroup, SourceGroup, WindowedGroup
from feature_definitions.language.requests import OnDemandFeature, Ref, Request
from feature_definitions.language.rules import (
    COLUMN,
    NAME,
    RESERVED,
    TYPE,
    DefinitionError,
    DefinitionErrors,
)
from feature_definitions.language.services import MODES, FeatureService, Join, Label, Mode, TrainingSet, check_mode, check_no_verb
from feature_definitions.language.sources import DeltaTable, Entity, Query, Source, SourceShape, Table
from feature_definitions.language.splits import Split
from feature_definitions.language.transforms import FeatureGroup, TransformGroup

__all__ = [
    "COLUMN",
    "MODES",
    "NAME",
    "RESERVED",
    "TYPE",
    "AnyGroup",
    "Column",
    "Csv",
    "DefinitionError",
    "DefinitionErrors",
    "DeltaTable",
    "Derived",
    "Entity",
    "Epoch",
    "Expectation",
    "Feature",
    "FeatureGroup",
    "FeatureService",
    "Files",
    "Jdbc",
    "Join",
    "Label",
    "Mode",
    "ObservationGroup",
    "OnDemandFeature",
    "Query",
    "Ref",
    "Request",
    "Rows",
    "Severity",
    "SnapshotGroup",
    "Source",
    "SourceGroup",
    "SourceShape",
    "Split",
    "Table",
    "TrainingSet",
    "TransformGroup",
    "WindowedGroup",
    "at_least",
    "at_most",
    "between",
    "check_mode",
    "check_no_verb",
    "expression",
    "mean_between",
    "not_null",
    "one_of",
    "quantile_between",
    "row_count",
    "unique",
]
