"""agent.toml -> frozen, typed configuration. Every fault is told at once, with its path and line.

    load(path) -> Config           find, merge agent.d, decode; raises ConfigError
    decode(type, table, path) -> (value, faults)     one table, also for a plugin's own options
"""
