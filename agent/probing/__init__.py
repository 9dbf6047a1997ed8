"""From a plugin to a ProbeResult.

`loader` finds probe types, `plan` is what shall run, `scheduler` says when, `runner` runs it once,
`screen` is what may come out of it.
"""
