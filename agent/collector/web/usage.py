"""The three numbers that a tile shows, taken from the latest samples of a host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.model import Metric

CPU = "cpu.used_percent"
MEMORY = "memory.used_percent"
DISK = "disk.used_percent"


def usage(samples: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """{"cpu", "memory", "disk": percent | None, "mount": that of the fullest disk | ""} from "sample" events' data."""
    found: dict[str, Any] = {"cpu": None, "memory": None, "disk": None, "mount": ""}
    for sample in samples:
        for metric in sample["metrics"]:
            name, value, labels = parts_of(metric)
            if name == CPU and not labels:
                found["cpu"] = value
            elif name == MEMORY and not labels:
                found["memory"] = value
            elif name == DISK and (found["disk"] is None or value > found["disk"]):
                found["disk"], found["mount"] = value, labels.get("mount", "")
    return found


def parts_of(metric: Metric | Mapping[str, Any]) -> tuple[str, float, Mapping[str, str]]:
    """Name, value and labels of a metric, typed or as decoded from the wire."""
    if isinstance(metric, Metric):
        return metric.name, metric.value, metric.labels
    return metric["name"], metric["value"], metric.get("labels", {})
