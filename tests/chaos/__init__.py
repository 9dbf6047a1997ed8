"""No loss, shown: agents, broker and collector are killed at random, then a judge counts.

    python -m tests.chaos --cycles 200 --store sqlite

Oracle: a trigger inside each spool's own database notes every envelope in the very transaction that
commits it, so that what counts as committed is the disk's word and not the program's.
Obligation: each of these is in the collector's database once, or in exactly one reported gap.
"""
