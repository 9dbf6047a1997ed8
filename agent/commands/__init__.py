"""Commands to this host: signed, expiring, single-use, audited; one registry of verbs for CLI, Slack and MQTT."""

JOURNAL = "commands.db"
"""The file of `journal.Journal`; its name is here for who only asks whether it is there."""
