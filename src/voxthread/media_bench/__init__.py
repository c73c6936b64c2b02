"""`voxthread bench media`: many calls at once to a media process, and what it costs to serve them well."""
