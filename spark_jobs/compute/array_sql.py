"""One pass over an array in SQL: how often values come, how far they are spread, which one has a rank.

What a lambda does not depend on is computed again for each element, so all that a fold needs goes into its start.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F


def once_each(values: Column) -> Column:
    """Each value as an entry that came once."""
    return F.transform(values, lambda value: F.struct(value.alias("value"), F.lit(1).cast("bigint").alias("n")))


def added_up(entries: Column) -> Column:
    """Entries (`value`, `n`), sorted by value, as one of each value."""
    nothing = F.struct(
        F.slice(entries, 1, 0).alias("done"), F.get(entries, F.lit(0))["value"].alias("value"), F.lit(0).cast("bigint").alias("n")
    )

    def put(so_far: Column) -> Column:
        return F.concat(so_far["done"], F.array(F.struct(so_far["value"].alias("value"), so_far["n"].alias("n"))))

    def add(so_far: Column, entry: Column) -> Column:
        same = entry["value"] == so_far["value"]
        return F.struct(
            F.when(same, so_far["done"]).otherwise(put(so_far)).alias("done"),
            entry["value"].alias("value"),
            F.when(same, so_far["n"] + entry["n"]).otherwise(entry["n"]).alias("n"),
        )

    return F.aggregate(entries, nothing, add, lambda end: F.when(end["n"] > 0, put(end)).otherwise(end["done"]))


def most_frequent(entries: Column) -> Column:
    """The values of entries, the one that came most often first, the smaller first of two that came as often."""
    ordered = F.sort_array(F.transform(entries, lambda entry: F.struct((-entry["n"]).alias("n"), entry["value"].alias("value"))))
    return F.transform(ordered, lambda entry: entry["value"])


def of_rank(entries: Column, q: float) -> Column:
    """Of entries sorted by value the value of rank floor(q * (n - 1)); null without any."""
    total = F.aggregate(entries, F.lit(0).cast("bigint"), lambda so_far, entry: so_far + entry["n"])
    start = F.struct(F.floor(F.lit(q) * (total - 1)).alias("left"), F.lit(None).cast("bigint").alias("found"))

    def pass_by(so_far: Column, entry: Column) -> Column:
        left = so_far["left"] - entry["n"]
        return F.struct(left.alias("left"), F.coalesce(so_far["found"], F.when(left < 0, entry["value"])).alias("found"))

    return F.aggregate(entries, start, pass_by, lambda end: end["found"])


def moments(values: Column) -> Column:
    """Number (`n`), mean and sum of squared differences from it (`spread`) of doubles, in two passes in the order given."""
    number = F.size(values)
    mean = F.aggregate(values, F.lit(0.0), lambda total, value: total + value) / F.when(number > 0, number)
    start = F.struct(number.cast("bigint").alias("n"), mean.alias("mean"), F.lit(0.0).alias("spread"))

    def add(so_far: Column, value: Column) -> Column:
        apart = value - so_far["mean"]
        return F.struct(so_far["n"].alias("n"), so_far["mean"].alias("mean"), (so_far["spread"] + apart * apart).alias("spread"))

    return F.aggregate(values, start, add)


def variance(parts: Column) -> Column:
    """The sample variance of parts (`n`, `mean`, `spread`), put together in the order given; null below two values.

    Two parts of n and m values, d apart in their means, have together spread + spread + d^2 * n * m / (n + m) (Chan, Golub, LeVeque 1983).
    Each field of a stored part is taken out once, since Spark asks for its settings each time (a third of all CPU where parts are many).
    """
    taken = F.transform(parts, lambda part: F.struct(*[part[name].alias(name) for name in ("n", "mean", "spread")]))

    def add(so_far: Column, part: Column) -> Column:
        number, apart = so_far["n"] + part["n"], part["mean"] - so_far["mean"]
        return F.struct(
            number.alias("n"),
            (so_far["mean"] + apart * part["n"] / number).alias("mean"),
            (so_far["spread"] + part["spread"] + apart * apart * so_far["n"] * part["n"] / number).alias("spread"),
        )

    nothing = F.struct(F.lit(0).cast("bigint").alias("n"), F.lit(0.0).alias("mean"), F.lit(0.0).alias("spread"))
    return F.aggregate(taken, nothing, add, lambda end: F.when(end["n"] >= 2, end["spread"] / (end["n"] - 1)))
