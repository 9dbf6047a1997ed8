"""The audit's page: refusals in plain sight, found by words, and the chain verified."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.test_dashboard import HOSTILE, OVERFLOW, live

pytestmark = [pytest.mark.browser, pytest.mark.services]


async def test_who_asked_for_what_is_there_to_see(page: Page, site: Site) -> None:
    """New entries come by themselves; what was asked is text, whatever it holds; a narrow screen shows all of it."""
    await live(page, "/audit")
    await expect(page.get_by_role("heading", name="Nobody has asked for anything yet")).to_be_visible()
    await expect(page.get_by_text("no key to sign with")).to_be_visible()
    assert site.collector is not None
    auditor = site.collector.office.auditor
    common = {"request": "req_1", "actor": "slack:UADA", "source": "slash", "verb": "probe"}
    auditor.note(**common, text="probe web-1 disk", outcome="accepted", hosts=("web-1",))
    auditor.note(**common, text="probe web-1 disk", outcome="done", hosts=("web-1",), detail="1 done")
    stranger = {"request": "req_2", "actor": "slack:UEVE", "source": "mention", "verb": "job"}
    auditor.note(**stranger, text=HOSTILE, outcome="refused", detail="no_grant: you have no grant")
    await expect(page.locator("tbody tr")).to_have_count(3, timeout=15_000)
    refusal = page.locator('tr[data-outcome="refused"]')
    await expect(refusal).to_contain_text("slack:UEVE")
    await expect(refusal).to_contain_text(HOSTILE)
    await page.get_by_role("button", name="refused").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="all").click()
    await page.get_by_label("Filter").fill("ada done")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Verify the chain").click()
    await expect(page.get_by_role("status").filter(has_text="3 lines, whole")).to_be_visible()
    await page.set_viewport_size({"width": 360, "height": 720})
    assert await page.evaluate(OVERFLOW) == 0
    await expect(page.get_by_role("link", name="Audit")).to_have_attribute("aria-current", "page")
