"""From here to the collector: what goes on the wire, what waits on disk, and the connection."""
