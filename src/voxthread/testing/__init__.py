"""Fakes for tests of agents and adapters, shipped because users test against them too.

A fake keeps the contract of the port it stands for: it passes the same suite (`tests/contract/`) as the real
adapters. It is scripted, never random: it says what it was told to say, when it was told to. The log needs
no fake: `voxthread.bus.memory.MemoryBus` is the real one. Each module here names the port it implements.
"""
