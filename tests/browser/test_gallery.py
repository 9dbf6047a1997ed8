"""The gallery: what each message looks like, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from agent.slack.samples import samples
from tests.browser.conftest import Site
from tests.browser.test_dashboard import OVERFLOW, live

pytestmark = [pytest.mark.browser, pytest.mark.services]


async def test_every_message_is_there_as_it_is_in_slack(page: Page, site: Site) -> None:
    """Found from the list of incidents; colour, facts, trend, evidence, buttons and the picture are drawn."""
    await live(page, "/incidents")
    await page.get_by_role("link", name="What each message looks like in Slack").click()
    await expect(page).to_have_url(re.compile("/gallery$"))
    await expect(page.locator(".shot")).to_have_count(len(samples(0.0)))
    critical = page.locator("#message-critical")
    await expect(critical).to_contain_text("CRITICAL: memory on web-1")
    await expect(critical.locator(".mention")).to_have_text("@here")
    await expect(critical.locator("pre")).to_contain_text("mysqld")
    await expect(critical.locator(".context code").first).to_contain_text("█")
    await expect(critical.locator(".press")).to_have_text(
        ["Acknowledge", "Silence 1 h", "Silence 4 h", "Silence 1 d", "Run probe now"]
    )
    bar = "(box) => getComputedStyle(box, '::before').backgroundColor"
    assert await critical.locator(".attached").evaluate(bar) == "rgb(224, 30, 90)"
    assert await page.locator("#message-resolved .attached").evaluate(bar) == "rgb(46, 182, 125)"
    drawn = page.locator(".picture")
    await drawn.scroll_into_view_if_needed()
    await page.wait_for_function("() => document.querySelector('.picture').naturalWidth === 800")


async def test_what_is_escaped_for_slack_is_text_here(page: Page, site: Site) -> None:
    """A label with markup is a label with markup, and no sign of Slack's is left over."""
    await live(page, "/gallery")
    await expect(page.locator("#message-response_time")).to_contain_text("url=https://shop/?a=<b>&c")
    text = await page.locator(".shots").inner_text()
    assert not re.search(r"&(lt|gt|amp);|<!|\|Runbook|```|:[a-z]+_[a-z]+:", text)


async def test_the_keyboard_leads_to_a_message(page: Page, site: Site) -> None:
    await live(page, "/gallery")
    entry = page.locator(".index").get_by_role("button", name="It is over: the message turns green")
    await entry.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#message-resolved")).to_be_focused()
    await expect(page.locator("#message-resolved")).to_be_in_viewport()


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_is_wider_than_its_screen(page: Page, site: Site, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 740})
    await live(page, "/gallery")
    await expect(page.locator(".shot")).to_have_count(len(samples(0.0)))
    assert await page.evaluate(OVERFLOW) <= 0
    widest = "Math.max(...[...document.querySelectorAll('.slack *')].map((one) => one.getBoundingClientRect().right))"
    assert await page.evaluate(widest) <= width


async def test_a_phone_can_be_tried_at_a_desk(page: Page, site: Site) -> None:
    await live(page, "/gallery")
    await page.get_by_role("button", name="Phone").click()
    box = await page.locator("#message-warning .slack").bounding_box()
    assert box is not None
    assert box["width"] <= 375
