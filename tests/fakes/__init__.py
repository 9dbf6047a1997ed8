"""Stand-ins, each as strict as the real thing, and held to the same contract."""
