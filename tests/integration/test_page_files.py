import re

import httpx
import pytest
from starlette.applications import Starlette

from voxthread.gateway.page import create_page_routes

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

APP = Starlette(routes=create_page_routes())
MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://voxthread.test")


async def test_page_and_all_it_links_to_have_their_media_types() -> None:
    async with client() as http:
        page = await http.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        paths = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
        app = await http.get("/page/app.js")
        paths |= {f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', app.text)}
        assert len(paths) > 8
        for path in paths:
            linked = await http.get(f"/{path}")
            assert linked.status_code == 200
            assert linked.headers["content-type"].startswith(MEDIA_TYPES[path.rpartition(".")[2]])


async def test_page_runs_nothing_inline_and_nothing_from_elsewhere() -> None:
    async with client() as http:
        page = await http.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)|https?:", page.text)


async def test_page_asked_with_its_etag_is_not_sent_again() -> None:
    async with client() as http:
        first = await http.get("/page/app.js")
        assert first.headers["cache-control"] == "no-cache"
        again = await http.get("/page/app.js", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert (await http.get("/page/app.js", headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/__init__.py", "/page/", "/page/../health.py", "/page/%2e%2e/health.py"]
)
async def test_page_what_is_no_page_file_is_not_found(path: str) -> None:
    async with client() as http:
        assert (await http.get(path)).status_code == 404
