"""How our panels are made: a title, what it shows and what to do about it, a unit, queries with their legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.queries import quantile

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

BAD = "\n\nWhen it looks bad: "
"""What stands between a description's two halves."""

TOKENS_S = "count:tok/s"
"""Grafana's unit for rates of tokens: 1.2K tok/s."""

MONEY = "currency:"
"""Grafana's unit for money of no country: two decimals."""

MOST_RATIO = 9.99
"""Ratios in figures end there, at 999 %: a longer number does not fit."""


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how its series are called; in a table, the column of its values."""

    expr: str
    legend: str


def half_and_most(metric: str, filters: str, by: str, name: str = "") -> list[Query]:
    """What half of a histogram's values stay below and what 95 % do, for each value of the label `by`."""
    legend = f"{{{{{by}}}}} {name} p" if name else f"{{{{{by}}}}} p"
    return [Query(quantile(q, metric, filters, by), f"{legend}{round(q * 100)}") for q in (0.5, 0.95)]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a figure turns yellow and red; `good_above` where more is better."""

    warn: float
    bad: float
    good_above: bool = False


def graph(
    title: str,
    shows: str,
    when_bad: str,
    unit: str,
    queries: Sequence[Query],
    *,
    width: int = 12,
    stacked: bool = False,
    percent: bool = False,
    most: float | None = None,
) -> timeseries.Panel:
    """Lines over time; `stacked` where the sum means something, `percent` where only the shares do."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(shows + BAD + when_bad)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .draw_style(GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(30 if stacked or percent else 5)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "max", "lastNotNull"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if most is not None:
        panel.max(most)
    if stacked or percent:
        panel.stacking(
            common.StackingConfig().mode(StackingMode.PERCENT if percent else StackingMode.NORMAL).group("A")
        )
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number).range())
    return panel


def figure(
    title: str, shows: str, when_bad: str, unit: str, query: Query, *, limits: Limits, width: int = 4
) -> stat.Panel:
    """One number for the whole time range, green, yellow or red."""
    query = _fitting(query, unit)
    return (
        _figure(title, shows + BAD + when_bad, unit, width)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.BACKGROUND)
        .thresholds(_thresholds(limits))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(query, 0).instant())
    )


def _figure(title: str, description: str, unit: str, width: int) -> stat.Panel:
    """One number in a tile of its own."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .no_value("no data")
    )


def tile(title: str, shows: str, when_bad: str, unit: str, query: Query, *, width: int = 4) -> stat.Panel:
    """One number as it is now, over its course in the time range; it is neither good nor bad."""
    return (
        _figure(title, shows + BAD + when_bad, unit, width)
        .graph_mode(BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value=None, color="blue")]))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(_fitting(query, unit), 0).range())
    )


def distribution(title: str, shows: str, when_bad: str, unit: str, buckets: str, *, width: int = 12) -> heatmap.Panel:
    """Heatmap of a histogram; `buckets` is PromQL that gives how many values each `le` has had, see `buckets`."""
    return (
        heatmap.Panel()
        .title(title)
        .description(shows + BAD + when_bad)
        .datasource(SOURCE)
        .unit("short")
        .span(width)
        .height(8)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64).fill("blue"))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .with_target(_target(Query(buckets, "{{le}}"), 0).range().format(PromQueryFormat.HEATMAP))
    )


def rows(
    title: str, shows: str, when_bad: str, unit: str, queries: Sequence[Query], *, by: Sequence[str], width: int = 24
) -> table.Panel:
    """A table with a row for each value of the labels `by` and a column for each query."""
    renamed = {f"Value #{_letter(number)}": query.legend for number, query in enumerate(queries)}
    if len(queries) == 1:
        renamed = {"Value": queries[0].legend}
    panel = (
        table.Panel()
        .title(title)
        .description(shows + BAD + when_bad)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "renameByName": renamed,
                    "indexByName": {label: place for place, label in enumerate(by)},
                },
            )
        )
    )
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number).instant().format(PromQueryFormat.TABLE))
    return panel


def column_unit(panel: table.Panel, column: str, unit: str) -> table.Panel:
    """Another unit for one column of a table."""
    return panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])


def _target(query: Query, number: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(_letter(number)).datasource(SOURCE)
    )


def _fitting(query: Query, unit: str) -> Query:
    """`query` with a ratio held to what a figure has room for."""
    if unit != "percentunit":
        return query
    return Query(f"clamp({query.expr}, -{MOST_RATIO}, {MOST_RATIO})", query.legend)


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _thresholds(limits: Limits) -> ThresholdsConfig:
    colours = ("red", "yellow", "green") if limits.good_above else ("green", "yellow", "red")
    values = (limits.bad, limits.warn) if limits.good_above else (limits.warn, limits.bad)
    steps = [Threshold(value=None, color=colours[0])]
    steps += [Threshold(value=value, color=colour) for value, colour in zip(values, colours[1:], strict=True)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
