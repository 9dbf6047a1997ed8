"""Tocsin: an infrastructure agent daemon with chat-ops alerting."""
