"""The SQLite bus against the contract of every bus, and what is its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.bus_contract import BusContract
from voxthread.bus.sqlite import SqliteBus

pytestmark = pytest.mark.contract


class TestSqliteBus(BusContract):
    hop_ms = 5

    @pytest.fixture
    async def bus(self, tmp_path: Path) -> AsyncIterator[SqliteBus]:
        async with SqliteBus(tmp_path / "log.db") as bus:
            yield bus

    @pytest.fixture
    async def other_bus(self, bus: SqliteBus, tmp_path: Path) -> AsyncIterator[SqliteBus]:
        async with SqliteBus(tmp_path / "log.db") as other:
            yield other
