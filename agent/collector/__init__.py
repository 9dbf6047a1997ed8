"""The collector: what hosts send goes into the database, and from there to whoever looks."""
