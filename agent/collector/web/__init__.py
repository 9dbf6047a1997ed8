"""The collector's face: HTTP API, live stream, metrics about itself, and the dashboard."""

from agent.collector.web.app import make_app

__all__ = ["make_app"]
