"""Small charts as SVG text, drawn by hand: a page needs nothing from elsewhere. Colours are the page's, by class."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Number = float | None

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 980, 170, 64, 10, 22
_LARGE = 1e100
"""What is beyond it is drawn at the edge."""
_SPARK_WIDTH, _SPARK_HEIGHT = 96, 20
_DENSE_WIDTH, _DENSE_HEIGHT = 160, 34


@dataclass(frozen=True, slots=True)
class Series:
    """One value per interval, oldest first (None: not judged), its label, whether it was bad, and the bounds of all."""

    labels: Sequence[str]
    values: Sequence[Number]
    bad: Sequence[bool]
    least: Number = None
    most: Number = None


def plot(series: Series, *, bars: bool) -> str:
    """The values over time, bad ones in another colour, and the bounds: counts as bars from zero, others as a line."""
    scale = _scale(series, from_zero=bars)
    step = (_WIDTH - _LEFT) / max(len(series.values), 1)
    marks = [
        _mark(series, number, _LEFT + step * number, step, scale, bars=bars)
        for number, value in enumerate(series.values)
        if value is not None and (value or not bars)
    ]
    line = "" if bars else _line(series.values, _LEFT + step / 2, step, scale)
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="measured per interval">'
        f"{''.join(_ticks(scale))}{''.join(_bounds(series, scale))}{line}{''.join(marks)}{''.join(_ends(series.labels))}</svg>"
    )


def spark(values: Sequence[Number]) -> str:
    """The values over time, as small as a word; empty where there are fewer than two."""
    known = [value for value in values if value is not None and abs(value) < _LARGE]
    if len(known) < 2:
        return ""
    scale = _Scale(min(known), max(known), 2, _SPARK_HEIGHT - 2)
    step = _SPARK_WIDTH / len(values)
    title = f"{number(min(known))} to {number(max(known))}"
    line = _line(values, step / 2, step, scale)
    return f'<svg class="spark" viewBox="0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}" role="img"><title>{title}</title>{line}</svg>'


def shares(parts: Sequence[tuple[str, float]], *, width: int = 240) -> str:
    """Parts of a whole side by side, each by its name: their classes are `part0`, `part1` and so on."""
    drawn, x = [], 0.0
    for place, (name, share) in enumerate(parts):
        wide = max(share, 0.0) * width
        title = f"<title>{escape(name)}: {100 * share:.3g} %</title>"
        drawn.append(f'<rect class="part{place}" x="{x:.1f}" y="0" width="{wide:.1f}" height="14">{title}</rect>')
        x += wide
    return f'<svg class="shares" viewBox="0 0 {width} 14" role="img">{"".join(drawn)}</svg>'


def density(quantiles: Sequence[tuple[float, float]]) -> str:
    """How values lie between quantiles (value, share up to it): the taller, the closer together; empty where they are all one.

    The ends are left out where the rest would be too narrow to see; values that many share are a line of their own.
    """
    known = [(value, share) for value, share in quantiles if abs(value) < _LARGE]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return ""
    inner = [each for each in known if 0 < each[1] < 1]
    if len(inner) > 1 and inner[0][0] < inner[-1][0] and known[-1][0] - known[0][0] > 4 * (inner[-1][0] - inner[0][0]):
        known = inner
    low, wide = known[0][0], known[-1][0] - known[0][0]
    steps = [(a, b, upto - since) for (a, since), (b, upto) in pairwise(known)]
    heights = [mass / max((b - a) / wide, 1 / 40) for a, b, mass in steps]
    most = max(heights) or 1.0
    drawn = []
    for (a, b, mass), tall in zip(steps, heights, strict=True):
        x, across = (a - low) / wide * _DENSE_WIDTH, max((b - a) / wide * _DENSE_WIDTH, 1.5)
        y = tall / most * (_DENSE_HEIGHT - 2)
        title = f"<title>{100 * mass:.3g} % from {number(a)} to {number(b)}</title>"
        drawn.append(
            f'<rect x="{min(x, _DENSE_WIDTH - 1.5):.1f}" y="{_DENSE_HEIGHT - y:.1f}" width="{across:.1f}" height="{y:.1f}">{title}</rect>'
        )
    return f'<svg class="density" viewBox="0 0 {_DENSE_WIDTH} {_DENSE_HEIGHT}" role="img">{"".join(drawn)}</svg>'


def number(value: Number) -> str:
    """A number as a person reads it: at most five digits that mean something, a space between thousands."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.5g}" if abs(value) < 1e5 else f"{value:,.0f}".replace(",", " ") if abs(value) < 1e12 else f"{value:.3e}"


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    top: float
    bottom: float

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.bottom - min(max(share, 0.0), 1.0) * (self.bottom - self.top), 1)


def _scale(series: Series, *, from_zero: bool) -> _Scale:
    """Room for the values, and for a bound that is not so far from them that they would look alike."""
    known = [value for value in series.values if value is not None and abs(value) < _LARGE] or [0.0]
    low, high = (min(0.0, *known), max(0.0, *known)) if from_zero else (min(known), max(known))
    reach = max(high - low, abs(high) * 0.1, abs(low) * 0.1, 1e-9)
    for bound in (series.least, series.most):
        if bound is not None and low - 3 * reach <= bound <= high + 3 * reach:
            low, high = min(low, bound), max(high, bound)
    room = 0.0 if from_zero else max(high - low, reach) * 0.06
    return _Scale(low - room, high + room if high + room > low - room else low + 1, _TOP, _HEIGHT - _BOTTOM)


def _mark(series: Series, number_: int, x: float, step: float, scale: _Scale, *, bars: bool) -> str:
    value = series.values[number_] or 0.0
    tone = "bad" if series.bad[number_] else "good"
    title = f"<title>{escape(series.labels[number_])}: {number(value)}</title>"
    if bars:
        y, width, height = scale.y(value), max(step * 0.8, 0.8), max(scale.y(0.0) - scale.y(value), 1.5)
        return f'<rect class="{tone}" x="{x + step * 0.1:.1f}" y="{y}" width="{width:.1f}" height="{height:.1f}">{title}</rect>'
    radius = min(max(step * 0.3, 1.2), 3.5)
    return f'<circle class="{tone}" cx="{x + step / 2:.1f}" cy="{scale.y(value)}" r="{radius:.1f}">{title}</circle>'


def _line(values: Sequence[Number], first: float, step: float, scale: _Scale) -> str:
    """One line per stretch without gaps."""
    stretches: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append(f"{first + step * at:.1f},{scale.y(value)}")
    return "".join(f'<polyline class="line" points="{" ".join(points)}"/>' for points in stretches if len(points) > 1)


def _ticks(scale: _Scale) -> Iterator[str]:
    """A few round values with a line each."""
    rough = (scale.high - scale.low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
    for at in range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1):
        y = scale.y(at * step)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{number(float(f"{at * step:.6g}"))}</text>'


def _bounds(series: Series, scale: _Scale) -> Iterator[str]:
    for words, bound in (("at least", series.least), ("at most", series.most)):
        if bound is not None and scale.low <= bound <= scale.high:
            y = scale.y(bound)
            beside = y - 4 if y > _TOP + 14 else y + 13
            yield f'<line class="bound" x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}"/>'
            yield f'<text class="bound" x="{_WIDTH - 4}" y="{beside}" text-anchor="end">{words} {number(bound)}</text>'


def _ends(labels: Sequence[str]) -> Iterator[str]:
    if labels:
        yield f'<text x="{_LEFT}" y="{_HEIGHT - 5}">{escape(labels[0])}</text>'
    if len(labels) > 1:
        yield f'<text x="{_WIDTH}" y="{_HEIGHT - 5}" text-anchor="end">{escape(labels[-1])}</text>'
