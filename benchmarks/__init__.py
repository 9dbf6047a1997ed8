"""Measurements beside a floor and beside peers, all in one run: `make bench`.

Absolute figures are this machine's on this day; the ratios are what the targets are about.
"""
