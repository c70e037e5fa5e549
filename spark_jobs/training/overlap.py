"""Whether labels of one part of a training set are of times that rows of another part lie in: then what is tested was partly taught."""

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions.intervals import MICROSECOND, duration
from spark_jobs.training.order import NUMBER
from spark_jobs.training.parts import PART
from spark_jobs.training.spine import TrainingRequest

_AT, _OTHER, _MINE = "_hw_asked", "_hw_other", "_hw_mine"


def across_parts(rows: DataFrame, sample: pa.Table | None, request: TrainingRequest, *, at: str) -> float | None:
    """The share of a sample with a row of the same keys in another part, nearer than the label's horizon; one job.

    None where there is no label and no split, or no sampled row in a part, and where no two rows can be so: a split by time leaves out the
    rows between its parts, one by entity has all rows of the same keys in one.
    """
    if sample is None or request.label is None or request.split is None or request.split.by in ("time", "entity"):
        return None
    asked = sample.filter(pc.is_valid(sample.column(PART)))
    if not asked.num_rows:
        return None
    keys, horizon = [*request.service.keys], duration(request.label.horizon) // MICROSECOND
    columns = {key: asked.column(key) for key in keys} | {NUMBER: asked.column(NUMBER), _MINE: asked.column(PART)}
    wanted = rows.sparkSession.createDataFrame(pa.table({**columns, _AT: asked.column(at).cast(pa.int64())}))
    others = rows.select(*[f"`{key}`" for key in keys], F.unix_micros(f"`{at}`").alias(_OTHER), PART)
    near = F.abs(F.col(_OTHER) - F.col(_AT)) < F.lit(horizon)
    found = others.join(F.broadcast(wanted), on=keys).where(near & (F.col(PART) != F.col(_MINE)))
    shared: int = found.select(NUMBER).distinct().count()
    return shared / int(asked.num_rows)
