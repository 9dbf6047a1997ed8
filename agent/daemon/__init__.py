"""The host daemon, `tocsin run`: WIRING ONLY. Builds the parts, joins them, and keeps them going.

service: one TaskGroup with all of them · setup: configuration and probes · guard: restarts a task that fell
self_probe: what the daemon measures about itself · watchdog: whether systemd may believe that it lives
"""
