"""The host daemon, `tocsin run`: WIRING ONLY. Builds the parts, joins them, and keeps them going.

main: the process · service: one TaskGroup with all parts · setup: configuration and probes together
guard: starts a fallen task again · switches: what a reload exchanges · watchdog: whether we live
self_probe: what the daemon measures of itself · alert_test: `tocsin alert test`, the daemon's half
"""
