"""What `voxthread serve` is: it starts the roles, sees a death at once, says so on the log, starts anew.

It hosts nothing. Kill it and the roles go on; started again it adopts them.
"""
