"""Commands to this host: signed, expiring, single-use, audited; one registry of verbs for CLI, Slack and MQTT."""
