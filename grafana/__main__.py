"""Write the generated files: dashboards as JSON, and the list of vLLM's metrics. `make dashboards` runs this."""

from __future__ import annotations

import sys

from grafana import generate

if __name__ == "__main__":
    generate.write()
    sys.exit(0)
