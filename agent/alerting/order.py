"""What is told first: new critical > rise > recovery > new warning > edits > thread replies. Pure."""

from __future__ import annotations

from agent.alerting.bulletin import is_bulletin
from agent.alerting.delivery import Delivery, Operation
from agent.model import Severity, TransitionKind


def urgency(row: Delivery, operation: Operation) -> int:
    """The lower, the sooner."""
    if operation == "find":
        operation = row.doing or "post"
    if operation == "post":
        first = is_bulletin(row.incident) or (row.incident.severity is Severity.CRITICAL and not row.resolved)
        return (0 if first else 3) + (4 if row.gathered else 0)
    if operation == "reply":
        return 6
    if operation == "look":
        return 5
    kind = None if row.call is None else row.call.kind
    return {TransitionKind.ESCALATED: 1, TransitionKind.RESOLVED: 2}.get(kind, 5) if kind else 5
