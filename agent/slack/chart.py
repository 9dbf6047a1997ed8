"""The hour before an incident as a PNG that can be read on a phone.

`python -m agent.slack.chart` draws the incident that stands as JSON on its standard input: a process of its own, so
that neither the library nor its pictures stay in the daemon's memory.
"""

from __future__ import annotations

import os
import sys

import msgspec

from agent.alerting.figure import figure
from agent.model import Incident
from agent.slack.blocks import colour
from agent.slack.facts import bound, headline, history_unit
from agent.slack.scale import scale
from agent.slack.sheet import Sheet, known
from agent.slack.text import plain, sane

MINUTE = 60.0
_TICK = 15
"""Minutes between two marks of time."""


def chart(incident: Incident) -> bytes:
    """b"" where there is no value to draw, or only one."""
    opened = sane(incident.fired_at)
    start = opened - (len(incident.history) - 1) * MINUTE
    points = [(start + minute * MINUTE, value) for minute, value in enumerate(incident.history) if known(value)]
    if len(points) < 2:
        return b""
    unit = history_unit(incident)
    judged = incident.op in ("<", ">") and unit == incident.unit  # it is the line itself that the limit is for
    limit = incident.limit if judged and known(incident.limit) else None
    recent = incident.updated_at - incident.fired_at < MINUTE and known(incident.history[-1])
    if limit is not None and recent and known(incident.value):
        points[-1] = points[-1][0], incident.value  # what crossed the limit, where a minute's mean may not
    values = [value for _, value in points] + ([] if limit is None else [limit])
    sheet = Sheet(start, opened, scale(min(values), max(values), unit))
    last, value = points[-1]
    sheet.head(headline(incident), plain(incident.metric, 80), figure(value, unit), colour(incident))
    minutes = range(0, len(incident.history), _TICK)
    sheet.axes(unit, [opened - minute * MINUTE for minute in minutes])
    sheet.line(points, apart=1.5 * MINUTE)
    if limit is not None:
        sheet.limit(limit, f"limit {bound(incident)}")
    sheet.dot(last, value, colour(incident))
    return sheet.png()


def main() -> None:
    """The PNG on standard output; nothing where there is nothing to draw."""
    os.nice(10)  # an alert's picture has time
    sys.stdout.buffer.write(chart(msgspec.json.decode(sys.stdin.buffer.read(), type=Incident)))


if __name__ == "__main__":
    main()
