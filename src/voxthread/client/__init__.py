"""A caller made of code: places a call over WHIP, speaks, listens and measures what a person would hear."""
