"""`voxthread bench turns`: the turn-taking of a whole orchestrator, measured in audio time on a spoken set."""
