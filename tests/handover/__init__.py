"""Many hosts, one collector that is killed again and again, one Slack: nothing is told twice, nothing is lost.

python -m tests.handover --hosts 50 --kills 20 --transitions 200
"""
