"""What can be done about an incident from its message, pure. Who may, is decided where the press arrives."""

from __future__ import annotations

from typing import Any

from agent.alerting.bulletin import is_bulletin
from agent.model import Incident

BLOCK_ID = "tocsin_actions"
ACKNOWLEDGE, PROBE = "tocsin_ack", "tocsin_probe"
SILENCES = (
    ("tocsin_silence_1h", "Silence 1 h"),
    ("tocsin_silence_4h", "Silence 4 h"),
    ("tocsin_silence_1d", "Silence 1 d"),
)
"""Action id and what the button says."""


def buttons(incident: Incident) -> list[dict[str, Any]]:
    """The block of them; none once it is resolved, and no Acknowledge where somebody has it in hand.

    A button's value is `<host> <incident id>`; no host id holds a blank.
    """
    if incident.state == "resolved" or is_bulletin(incident):
        return []
    value = f"{incident.host} {incident.id}"
    if len(value) > 2000:
        return []
    elements = [_button(action, text, value) for action, text in SILENCES]
    if not incident.acknowledged_by:
        elements.insert(0, _button(ACKNOWLEDGE, "Acknowledge", value) | {"style": "primary"})
    elements.append(_button(PROBE, "Run probe now", value))
    return [{"type": "actions", "block_id": BLOCK_ID, "elements": elements}]


def _button(action: str, text: str, value: str) -> dict[str, Any]:
    return {"type": "button", "action_id": action, "text": {"type": "plain_text", "text": text}, "value": value}
