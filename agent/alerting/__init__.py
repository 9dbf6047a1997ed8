"""From a measured value to a message that is owed: thresholds, incidents, and the outbox.

threshold  pure: rule x state x value -> severity
incident   pure: incident x severity -> transition
engine     every rule over every series; what survives a restart
outbox     makes what is shown equal to what is so
state      the file that both remember in
"""
