"""Everything between a person in Slack (or at the API) and a host: requests, grants, commands, answers, audit."""
