"""The functions that an expression may call: those that give the same result for the same row every time, with what they give."""

MANY = 99
# What a function gives: a type; or "number", "first": that of its first argument; "whole": a whole number; "common": the one that all
# arguments share; "then": the one that all but the first share; "modulo": that of a remainder; "element": that of an array's values.
# Then the fewest and the most arguments.
FUNCTIONS: dict[str, tuple[str, int, int]] = {
    name: (result, least, most)
    for result, least, most, names in (
        ("number", 1, 1, "abs negative positive"),
        ("number", 1, 2, "round bround"),
        ("whole", 1, 1, "floor ceil ceiling"),
        ("modulo", 2, 2, "mod pmod"),
        ("double", 1, 1, "sqrt cbrt exp expm1 ln log1p log2 log10 sign signum"),
        ("double", 1, 1, "sin cos tan asin acos atan degrees radians double float"),
        ("double", 1, 2, "log"),
        ("double", 2, 2, "pow power atan2 hypot try_divide nanvl months_between"),
        ("common", 1, MANY, "coalesce"),
        ("common", 2, MANY, "greatest least"),
        ("common", 2, 2, "nvl ifnull"),
        ("then", 3, 3, "if nvl2"),
        ("first", 2, 2, "nullif"),
        ("boolean", 1, 1, "isnull isnotnull isnan boolean"),
        ("boolean", 2, 2, "startswith endswith contains regexp_like"),
        ("string", 1, 1, "upper lower ucase lcase initcap trim ltrim rtrim reverse md5 sha1 string"),
        ("string", 2, 2, "left right repeat sha2 date_format"),
        ("string", 2, 3, "substring substr replace regexp_extract lpad rpad"),
        ("string", 3, 3, "regexp_replace translate split_part substring_index"),
        ("string", 1, MANY, "concat"),
        ("string", 2, MANY, "concat_ws"),
        ("int64", 1, 1, "length char_length character_length ascii crc32 bigint int"),
        ("int64", 1, 1, "year quarter month day dayofmonth dayofweek dayofyear weekday weekofyear hour minute second"),
        ("int64", 1, 1, "unix_date unix_seconds unix_millis unix_micros"),
        ("int64", 2, 2, "instr levenshtein datediff date_diff"),
        ("int64", 2, 3, "locate position"),
        ("int64", 1, MANY, "hash xxhash64"),
        ("int64", 1, 1, "size cardinality"),
        ("boolean", 2, 2, "array_contains"),
        ("element", 1, 1, "array_min array_max"),
        ("element", 2, 2, "get"),
        ("date", 1, 1, "date last_day date_from_unix_date"),
        ("date", 1, 2, "to_date"),
        ("date", 2, 2, "date_add date_sub add_months next_day trunc"),
        ("date", 3, 3, "make_date"),
        ("timestamp", 1, 1, "timestamp timestamp_seconds timestamp_millis timestamp_micros"),
        ("timestamp", 1, 2, "to_timestamp"),
        ("timestamp", 2, 2, "date_trunc from_utc_timestamp to_utc_timestamp"),
    )
    for name in names.split()
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


OF_TIME = _names(
    "year quarter month day dayofmonth dayofweek dayofyear weekday weekofyear hour minute second unix_date unix_seconds unix_millis "
    "unix_micros datediff date_diff date_format months_between"
)
"""Functions that read a time."""

OF_MANY_ROWS = _names(
    "sum avg mean count min max stddev stddev_samp stddev_pop std variance var_samp var_pop first last first_value last_value any_value "
    "any some every bool_and bool_or count_if collect_list collect_set approx_count_distinct percentile percentile_approx median mode "
    "max_by min_by corr covar_samp covar_pop skewness kurtosis array_agg "
    "lag lead row_number rank dense_rank percent_rank cume_dist ntile nth_value"
)
"""Functions of many rows."""

CLOCK = _names("now current_date current_timestamp current_time curdate curtime localtimestamp localtime getdate sysdate")
"""Functions and words that read the clock."""

OF_ARRAYS = _names("size cardinality array_contains array_min array_max get")
"""Functions whose first argument is an array."""

OF_PATTERNS = _names("regexp_like regexp_extract regexp_replace date_format to_date to_timestamp")
"""Functions whose second argument is a pattern, of which Spark refuses those that are none."""

OF_ANYTHING = _names("coalesce nvl ifnull if nvl2 isnull isnotnull")
"""Functions that hand on what they are given, arrays too."""

OF_GROUPS = _names(
    "sum avg mean count min max stddev stddev_samp stddev_pop std variance var_samp var_pop any some every bool_and bool_or count_if "
    "median percentile corr covar_samp covar_pop skewness kurtosis approx_count_distinct rank dense_rank percent_rank cume_dist"
)
"""Those of many rows whose result does not depend on the order of rows that are equal: what a query may call."""
