"""The picture of a decision: both means and their difference, each with its interval, as SVG.

Drawn by Vega-Lite on the server from numbers alone. Colours are the page's own CSS variables, so that one
picture fits light and dark; a wide and a narrow one are made, and the page shows the one that fits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import vl_convert
from markupsafe import Markup

from assay.types import Value

if TYPE_CHECKING:
    from assay.evals.compare import Decision, Side
    from assay.stats import Verdict

_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
_VERSION: Final = "6.4"
_WIDE: Final = 880
_NARROW: Final = 250
_ROW: Final = 30


class Charts(Value):
    """The same picture for wide and narrow windows."""

    wide: Markup
    narrow: Markup


class Bar(Value):
    """A point and the ends of its interval, None where there is none."""

    label: str
    value: float
    low: float | None
    high: float | None
    colour: str


def effect_charts(decision: Decision) -> Charts:
    """The pictures of a decision. About 50 ms each, once."""
    means = (_mean("A", decision.a), _mean("B", decision.b))
    effect = _effect(decision.verdict)
    margin = decision.verdict.margin
    return Charts(_draw(means, effect, margin, _WIDE), _draw(means, effect, margin, _NARROW))


def _mean(label: str, side: Side) -> Bar:
    return Bar(label, side.mean, side.low, side.high, f"var(--side-{label.lower()})")


def _effect(verdict: Verdict) -> Bar:
    colours = {"better": "var(--good)", "worse": "var(--bad)", "equivalent": "var(--even)"}
    colour = colours.get(verdict.outcome, "var(--warn)")
    return Bar("B − A", verdict.effect, verdict.low, verdict.high, colour)


@lru_cache(maxsize=256)
def _draw(means: tuple[Bar, ...], effect: Bar, margin: float, width: int) -> Markup:
    spec = {
        "$schema": _SCHEMA,
        "background": None,
        "spacing": 22,
        "config": _config(),
        "vconcat": [
            _panel(means, _domain(means, ()), "mean score", width, []),
            _panel((effect,), _domain((effect,), (0, -margin, margin)), "difference", width, _zero(margin)),
        ],
    }
    # The numbers are in the specification: there is nothing that could be fetched, and nothing may be.
    svg = vl_convert.vegalite_to_svg(spec, vl_version=_VERSION, allowed_base_urls=[])
    return Markup(svg)  # noqa: S704  (made of numbers and our own words)


def _panel(
    bars: tuple[Bar, ...], domain: list[float], title: str, width: int, below: list[dict[str, Any]]
) -> dict[str, Any]:
    x = {
        "type": "quantitative",
        "scale": {"domain": domain, "nice": False, "zero": False},
        "axis": {"title": title, "tickCount": max(4, width // 90), "format": "~g"},
    }
    y = {"field": "label", "type": "nominal", "sort": None, "axis": {"title": None, "labelPadding": 8}}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    rows = [bar for bar in bars if bar.low is not None]
    interval = {"data": {"values": [_row(bar) for bar in rows]}, "encoding": {"y": y}}
    layers: list[dict[str, Any]] = list(below)
    for mark, fields in (
        ({"type": "rule", "strokeWidth": 3, "strokeCap": "round"}, {"x": "low", "x2": "high"}),
        ({"type": "tick", "thickness": 2, "size": 12, "opacity": 1}, {"x": "low"}),
        ({"type": "tick", "thickness": 2, "size": 12, "opacity": 1}, {"x": "high"}),
    ):
        encoding = {"y": y, "color": colour, "x": {**x, "field": fields["x"]}}
        if "x2" in fields:
            encoding["x2"] = {"field": fields["x2"]}
        layers.append({**interval, "mark": mark, "encoding": encoding})
    point = {"type": "point", "filled": True, "size": 110, "opacity": 1}
    layers.append(
        {
            "data": {"values": [_row(bar) for bar in bars]},
            "mark": point,
            "encoding": {"y": y, "color": colour, "x": {**x, "field": "value"}},
        }
    )
    return {"width": width, "height": _ROW * len(bars), "layer": layers}


def _zero(margin: float) -> list[dict[str, Any]]:
    """What a difference is held against: no difference, and the margin within which it does not matter."""
    line = {
        "data": {"values": [{"at": 0}]},
        "mark": {"type": "rule", "color": "var(--text)", "strokeWidth": 1, "strokeDash": [3, 3]},
        "encoding": {"x": {"field": "at", "type": "quantitative"}},
    }
    band = {
        "data": {"values": [{"from": -margin, "to": margin}]},
        "mark": {"type": "rect", "color": "var(--even)", "opacity": 0.15},
        "encoding": {"x": {"field": "from", "type": "quantitative"}, "x2": {"field": "to"}},
    }
    return [band, line] if margin > 0 else [line]


def _row(bar: Bar) -> dict[str, Any]:
    return {"label": bar.label, "value": bar.value, "low": bar.low, "high": bar.high, "colour": bar.colour}


def _domain(bars: tuple[Bar, ...], more: tuple[float, ...]) -> list[float]:
    """From the lowest to the highest of what is shown, with some air."""
    ends = [*more]
    for bar in bars:
        ends += [end for end in (bar.value, bar.low, bar.high) if end is not None]
    low, high = min(ends), max(ends)
    air = (high - low) * 0.06 or 0.05
    return [low - air, high + air]


def _config() -> dict[str, Any]:
    muted = "var(--muted)"
    return {
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {
            "gridColor": "var(--line)",
            "domainColor": "var(--line-strong)",
            "tickColor": "var(--line-strong)",
            "labelColor": muted,
            "titleColor": muted,
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "titleFontSize": 12,
        },
        "axisY": {
            "labelFontSize": 13,
            "labelFontWeight": "bold",
            "domain": False,
            "ticks": False,
            "grid": False,
        },
    }
