"""A training job: will a flight land more than 15 minutes late? Trained once honestly and once on a leaking join, judged as served.

    python examples/train_arrival_delay.py demo

reads the training set of a project (here `demo`) with `deltalake`, without Spark. The honest features are those known one hour before the
scheduled departure. The naive join takes, for each flight, the row of the day (or hour) that the flight lies in: an easy mistake, since
that row also counts what happened later that day, the flight's own delay included. Both models are judged on the last thirty days with the
features that would really have been served: only those exist when a prediction is asked for.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from deltalake import DeltaTable
from pyarrow import fs
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score, roc_curve

from serving import models

mpl.use("Agg")
from matplotlib import pyplot as plt

warnings.filterwarnings("ignore", message="Could not find the number of physical cores")  # scikit-learn, where lscpu is missing

SET, SERVICE, LABEL, AT = "arrival_delay", "arrival_delay_v1", "late", "predict_at"
TAUGHT = 100_000
"""How many flights a model is taught by, drawn from all before the cut: more make it slower, hardly better."""
HELD_OUT, HORIZON = pd.Timedelta(days=30), pd.Timedelta(days=2)
NAIVE = {"carrier_delays": ("carrier", "1D"), "origin_congestion": ("origin", "1h"), "aircraft_history": ("tailnum", "1D")}
"""The windowed groups: their key and cadence. Weather and planes are the same in both joins."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was trained on and what came of it. AUC: 0.5 is guessing, 1.0 is knowing."""

    rows: int
    unlabelled: int
    train_rows: int
    held_out_rows: int
    late_share: float
    honest_auc: float
    leaking_auc: float
    leaking_auc_promised: float
    fingerprint: str

    @property
    def lines(self) -> tuple[str, ...]:
        """The result in plain words."""
        verdict = "better" if self.honest_auc > self.leaking_auc else "not better"
        return (
            f"trained on {self.train_rows:,} flights, held out {self.held_out_rows:,} of the last 30 days ({self.late_share:.0%} late)",
            f"honest join:  AUC {self.honest_auc:.3f} on the held-out month, as it would have been served",
            f"leaking join: AUC {self.leaking_auc:.3f} on the held-out month, as it would have been served",
            f"              (its own leaking features promised {self.leaking_auc_promised:.3f})",
            f"so the honest model is {verdict} in service, by {self.honest_auc - self.leaking_auc:+.3f}",
            f"and the leaking join overstates itself by {self.leaking_auc_promised - self.leaking_auc:+.3f}",
        )


def run(project: Path, *, fingerprint: str = "") -> Metrics:
    """Train both models on a project's training set.

    Writes `plots/arrival_delay.png` and `plots/arrival_delay.json` beside it, and the honest model as `models/arrival_delay`.
    """
    models.count_cores()
    lake = project / "lake"
    rows = read(lake / "training_sets" / SET)
    labelled = rows[rows[LABEL].notna()].reset_index(drop=True)
    features = [name for name in rows.columns if "__" in name]
    leaking = naive_join(labelled, lake=lake, features=features)
    cut = labelled[AT].max() - HELD_OUT
    train, held_out = labelled[AT] + HORIZON <= cut, labelled[AT] > cut
    truth = labelled.loc[held_out, LABEL].astype(bool)
    honest, naive = (_taught(rows, train=train, features=features) for rows in (labelled, leaking))
    honest_scores = _scores(honest, labelled, held_out=held_out, features=features)
    leaking_scores = _scores(naive, labelled, held_out=held_out, features=features)
    promised_scores = _scores(naive, leaking, held_out=held_out, features=features)
    models.save(project / "models" / SET, honest, service=SERVICE, features=features)
    metrics = Metrics(
        rows=len(rows),
        unlabelled=len(rows) - len(labelled),
        train_rows=int(train.sum()),
        held_out_rows=int(held_out.sum()),
        late_share=float(truth.mean()),
        honest_auc=float(roc_auc_score(truth, honest_scores)),
        leaking_auc=float(roc_auc_score(truth, leaking_scores)),
        leaking_auc_promised=float(roc_auc_score(truth, promised_scores)),
        fingerprint=fingerprint,
    )
    curves = {
        f"honest join, as served: {metrics.honest_auc:.3f}": honest_scores,
        f"leaking join, as served: {metrics.leaking_auc:.3f}": leaking_scores,
        f"leaking join, as it promised: {metrics.leaking_auc_promised:.3f}": promised_scores,
    }
    plots = project / "plots"
    plots.mkdir(exist_ok=True)
    _plot(truth, curves, plots / "arrival_delay.png")
    (plots / "arrival_delay.json").write_text(json.dumps(asdict(metrics), indent=2) + "\n", encoding="utf-8")
    return metrics


def read(path: Path, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A Delta table as pandas, read by `deltalake`."""
    table = DeltaTable(str(path)).to_pyarrow_table(
        columns=None if columns is None else list(columns), filesystem=fs.SubTreeFileSystem(str(path), fs.LocalFileSystem())
    )
    return table.to_pandas()


def naive_join(rows: pd.DataFrame, *, lake: Path, features: Sequence[str]) -> pd.DataFrame:
    """The same flights with the features of the day (or hour) that each lies in: they know its end."""
    joined = rows.copy()
    for group, (key, cadence) in NAIVE.items():
        names = [name.removeprefix(f"{group}__") for name in features if name.startswith(f"{group}__")]
        newest = max((lake / "features" / group).glob("g*"), key=lambda path: int(path.name[1:]))
        table = read(newest, columns=[key, "event_timestamp", *names])
        table["_day"] = table.pop("event_timestamp") - pd.Timedelta(cadence)
        keys = pd.DataFrame({key: rows[key], "_day": rows[AT].dt.floor(cadence).astype(table["_day"].dtype)})
        values = keys.merge(table, on=[key, "_day"], how="left")
        for name in names:
            joined[f"{group}__{name}"] = values[name].to_numpy()
    return joined


def _taught(lessons: pd.DataFrame, *, train: pd.Series, features: Sequence[str]) -> HistGradientBoostingClassifier:
    model = HistGradientBoostingClassifier(max_iter=60, max_bins=64, random_state=0)
    taught = lessons.loc[train]
    taught = taught.sample(n=min(TAUGHT, len(taught)), random_state=0)
    return model.fit(_numbers(taught[list(features)]), taught[LABEL].astype(bool))


def _scores(model: HistGradientBoostingClassifier, asked: pd.DataFrame, *, held_out: pd.Series, features: Sequence[str]) -> np.ndarray:
    scores: np.ndarray = model.predict_proba(_numbers(asked.loc[held_out, features]))[:, 1]
    return scores


def _numbers(frame: pd.DataFrame) -> np.ndarray:
    numbers: np.ndarray = frame.astype("float64").to_numpy()
    return numbers


def _plot(truth: pd.Series, curves: Mapping[str, np.ndarray], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 5.2), dpi=120)
    for (name, scores), style in zip(curves.items(), ("-", "-", ":"), strict=True):
        false, true, _ = roc_curve(truth, scores)
        axes.plot(false, true, style, label=name, linewidth=2)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.set(xlabel="flights on time that were called late", ylabel="late flights found", title="Late arrivals in the held-out month: AUC")
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Train on the project named on the command line."""
    parser = argparse.ArgumentParser(description="Train a model of late arrivals, honestly and on a leaking join.")
    parser.add_argument("project", type=Path, nargs="?", default=Path("demo"), help="the project's folder (default: demo)")
    project = parser.parse_args().project
    if not (project / "lake" / "training_sets" / SET).is_dir():
        sys.exit(f"{project} has no training set {SET!r} yet; run `headwater demo` first")
    for line in run(project).lines:
        print(line)
    print(f"plot: {project / 'plots' / 'arrival_delay.png'}")


if __name__ == "__main__":
    main()
