"""`voxthread chaos`: real calls to a server of its own, whose processes it kills; what did the caller notice?

Pure: `plan`, `texts`, `pauses`, `outcome`, `figures`, `table`. The rest starts servers, places calls and kills.
"""
