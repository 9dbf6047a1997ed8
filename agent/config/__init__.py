"""agent.toml -> frozen, typed configuration. Every fault is told at once, with its path and line.

`load.load(path) -> Config` finds, merges agent.d, decodes, checks, and raises ConfigError;
`decode.decode(type, table, path) -> (value, faults)` does one table, also a plugin's own options.
"""
