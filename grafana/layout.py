"""What all dashboards have: variables, links to each other, a time range."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.panels import SOURCE
from grafana.queries import scoped

TAG = "gpt-oss-serving"


def new_dashboard(uid: str, title: str, description: str, *, replicas_of: str) -> Dashboard:
    """An empty dashboard; `replicas_of` is the regular expression of the deployments whose replicas can be chosen."""
    return (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .timezone("browser")
        .refresh("30s")
        .time("now-1h", "now")
        .link(
            DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("namespace", "serving_scrape_replica_up"))
        .with_variable(_variable("release", scoped("serving_scrape_replica_up", 'namespace=~"$namespace"')))
        .with_variable(_variable("model", scoped("serving_engine_ready")))
        .with_variable(_variable("team", scoped('serving_requests_total{model=~"$model"}')))
        .with_variable(_variable("replica", scoped(f'serving_scrape_replica_up{{deployment=~"{replicas_of}"}}')))
    )


def _variable(name: str, series: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({series}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        # Requests that failed before they had a model count too; a list of names would leave them out.
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all", selected=True))
    )
