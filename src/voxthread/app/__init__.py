"""Wiring: the only place that knows concrete classes. Everything else meets here through Protocols."""
