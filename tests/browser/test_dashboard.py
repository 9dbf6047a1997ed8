"""The dashboard in a real Chromium, fed by a real collector over a real broker."""

from __future__ import annotations

import re
import time

import pytest
from playwright.async_api import Browser, Page, expect

from agent.model import Health, Metric, Severity, TransitionKind
from agent.transport import wire
from tests.browser.conftest import Site, Watch

pytestmark = [pytest.mark.browser, pytest.mark.services]

PICTURE = "document.querySelector('[data-chart=\"cpu, percent\"] canvas').toDataURL()"
LAST = "Number(document.querySelector('[data-chart=\"cpu, percent\"] .plot').dataset.last)"
HOSTILE = '<img src=x onerror="alert(1)">'
AGES = """
globalThis.agesSeen = [];
new MutationObserver(() => {
  for (const time of document.querySelectorAll(".tile .ago")) globalThis.agesSeen.push(time.textContent);
}).observe(document, { childList: true, subtree: true, characterData: true });
"""
LINES_OF_THE_SCORE = """(tile) => {
  tile.querySelector(".ago").textContent = "59 min ago";
  const range = document.createRange();
  range.selectNodeContents(tile.querySelector(".tile-health b"));
  return range.getClientRects().length;
}"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def live(page: Page, path: str = "/") -> None:
    await page.goto(path)
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live")


async def mark(page: Page) -> None:
    """What a reload would wipe out."""
    await page.evaluate("globalThis.neverReloaded = true")


async def is_marked(page: Page) -> bool:
    return bool(await page.evaluate("globalThis.neverReloaded === true"))


async def test_a_host_appears_without_reload(page: Page, site: Site) -> None:
    """The empty fleet says what to do; the first message of a host puts its tile there, with its numbers."""
    await live(page)
    await expect(page.get_by_role("heading", name="No host has reported yet")).to_be_visible()
    await mark(page)
    host = await site.host("web-1", {"role": "web"})
    tile = page.get_by_role("link", name="web-1")
    await expect(tile).to_contain_text("online")
    await host.usage(37.5)
    await expect(tile).to_contain_text("37.5 %")
    await expect(tile).to_contain_text("71.0 %")
    await expect(page.get_by_text("No host has reported yet")).to_have_count(0)
    await host.birth("offline")
    await expect(tile).to_contain_text("offline")
    assert await is_marked(page)


async def test_a_tile_is_right_at_its_first_sight(page: Page, site: Site) -> None:
    """When the host was heard is never shown as decades ago, and its score stays in one piece beside a long time."""
    await page.add_init_script(AGES)
    host = await site.host("web-1")
    await host.usage(37.5)
    health = wire.HealthMessage(1, "web-1", Health(time.time(), 100.0, "EXCELLENT", {}))
    await host.publish("health", wire.encode(health), retain=True)
    await live(page)
    tile = page.get_by_role("link", name="web-1")
    await expect(tile).to_contain_text("EXCELLENT")
    await expect(tile.locator(".ago")).not_to_have_text("just now")
    ages = await page.evaluate("globalThis.agesSeen")
    assert [age for age in ages if " d ago" in age] == []
    assert await tile.evaluate(LINES_OF_THE_SCORE) == 1


async def test_a_chart_moves_without_reload(page: Page, site: Site) -> None:
    """New values arrive in the chart's data and on its canvas; unlabelled metrics share a chart, labels have lines."""
    host = await site.host("web-1")
    now = time.time()
    for age in range(60, 9, -10):
        await host.usage(20.0, at=now - age)
    await live(page, "/hosts/web-1")
    chart = page.locator('[data-chart="cpu, percent"]')
    await expect(chart.locator("canvas")).to_be_visible()
    await expect(chart.locator(".plot")).to_have_attribute("data-points", "6")
    await mark(page)
    before, picture = await page.evaluate(LAST), await page.evaluate(PICTURE)
    await host.usage(90.0)
    await expect(chart.locator(".plot")).to_have_attribute("data-points", "7")
    await expect(chart.locator(".legend")).to_contain_text("90 %")
    assert await page.evaluate(LAST) > before
    await page.wait_for_function(f"(before) => {PICTURE} !== before", arg=picture)
    await host.run("load", Metric("load.1m", 1.5))
    await expect(page.locator('[data-chart="load"] .legend')).to_contain_text("1.5")
    await expect(page.locator('[data-chart="disk.used_percent"] .legend')).to_contain_text("/")
    assert await is_marked(page)


async def test_dragging_zooms_every_chart_and_leads_back(page: Page, site: Site) -> None:
    """A drag narrows the window of all charts; one button returns to the present; a range is kept in the address."""
    host = await site.host("web-1")
    now = time.time()
    for age in range(600, 9, -10):
        await host.usage(20.0, at=now - age)
    await live(page, "/hosts/web-1")
    over = page.locator('[data-chart="cpu, percent"] .u-over')
    box = await over.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    shown = page.locator('[data-chart="memory, percent"] .at')
    await expect(shown).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))  # the other chart's cursor is at the same time
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 40, steps=5)
    await page.mouse.up()
    back = page.get_by_role("button", name="Back to live")
    await expect(back).to_be_visible()
    narrowed = page.locator('[data-chart="memory, percent"] .plot')
    await expect(narrowed).not_to_have_attribute("data-points", "60")
    await back.click()
    await expect(narrowed).to_have_attribute("data-points", "60")
    await page.get_by_role("button", name="6h").click()
    await expect(page).to_have_url(re.compile(r"range=6h"))
    await expect(narrowed).not_to_have_attribute("data-points", "60")


async def test_an_incident_opens_and_turns_green(page: Page, site: Site) -> None:
    """On the fleet, in the list and on its own page, each step shows by itself, and is announced."""
    host = await site.host("web-1")
    await host.usage(20.0)
    await live(page)
    await expect(page.locator(".tile")).to_contain_text("No open incidents")
    await mark(page)
    await host.incident(TransitionKind.OPENED, 1, Severity.WARNING)
    await expect(page.locator(".tile")).to_have_attribute("data-tone", "warning")
    await expect(page.locator("#announcer")).to_contain_text("opened: warning, Disk / of web-1 is almost full")
    await expect(page).to_have_title(re.compile(r"^\(1\)"))
    await page.get_by_role("link", name="Incidents").click()
    row = page.locator('.incident[data-id="inc-web-1"]')
    await expect(row).to_contain_text("96.5 % > 95 %")
    await host.incident(TransitionKind.ESCALATED, 2)
    await expect(row).to_have_attribute("data-tone", "critical")
    await row.get_by_role("link", name="Disk / of web-1").click()
    await expect(page.locator(".timeline li")).to_have_count(2)
    await host.incident(TransitionKind.RESOLVED, 3)
    await expect(page.locator(".timeline li")).to_have_count(3)
    await expect(page.locator(".page-head .pill")).to_have_text("resolved")
    green = await page.locator(".page-head .pill").evaluate("(pill) => getComputedStyle(pill).color")
    assert green == await page.evaluate(
        "(() => { const probe = document.createElement('i'); probe.style.color = 'var(--ok)';"
        " document.body.append(probe); const { color } = getComputedStyle(probe); probe.remove(); return color; })()"
    )
    await page.get_by_role("link", name="Tocsin, to the fleet").click()
    await expect(page.locator(".tile")).to_have_attribute("data-tone", "ok")
    assert await is_marked(page)


async def test_what_a_host_says_is_only_text(page: Page, site: Site) -> None:
    """Markup in labels, summaries, rules, errors and links stays text: no element, no dialog, no request."""
    host = await site.host("web-1", {HOSTILE: "<!channel>", "x": HOSTILE})
    await host.usage(20.0)
    await host.run("disk", Metric("disk.used_percent", 80.0, "percent", labels={"mount": HOSTILE, "z": "<!channel>"}))
    await host.run("nfs", status="error", error=HOSTILE)
    hostile = {"summary": HOSTILE, "threshold": HOSTILE, "labels": {"mount": HOSTILE}, "grade": "<b>A"}
    await host.incident(TransitionKind.OPENED, 1, runbook="javascript:alert(1)", **hostile)
    await site.client.publish(f"tocsin/v1/{HOSTILE}/metrics/cpu", b"{}", qos=1)
    await site.client.publish(f"tocsin/v1/web-1/metrics/{HOSTILE.replace('/', '')}", b"<script>", qos=1)
    for path in ("/", "/incidents", "/incidents/inc-web-1", "/hosts/web-1"):
        await live(page, path)
        await expect(page.locator("main")).to_contain_text(HOSTILE)
        assert await page.locator("main img, main script, .grade *, [onerror]").count() == 0
        assert await page.locator('a[href^="javascript"]').count() == 0
    await expect(page.locator("main")).to_contain_text("<!channel>")
    chart = page.locator('[data-chart="disk.used_percent"]')
    await chart.scroll_into_view_if_needed()
    await expect(chart.locator(".legend")).to_contain_text(HOSTILE)
    await live(page)
    await expect(page.locator(".tile")).to_have_count(1)


async def test_nothing_is_wider_than_a_phone(page: Page, site: Site) -> None:
    """At 360 px no page scrolls sideways, however long the words."""
    long = "a-very-long-host-name-of-sixty-three-characters.in.example.com"
    host = await site.host(long, {"team": "x" * 90})
    await host.usage(20.0)
    mount = "/srv/" + "deep" * 30
    await host.run("disk", Metric("disk.used_percent", 80.0, "percent", labels={"mount": mount}))
    await host.run("nfs", status="error", error="e" * 300)
    await host.incident(TransitionKind.OPENED, 1, summary="S" * 120, labels={"mount": mount})
    await page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", f"/hosts/{long}", "/incidents", f"/incidents/inc-{long}"):
        await live(page, path)
        await expect(page.locator("main")).to_contain_text("SSS")
        assert await page.evaluate(OVERFLOW) == 0, path


async def test_the_keyboard_reaches_a_tile_and_opens_it(page: Page, site: Site) -> None:
    """Tab goes skip link, brand, pages, filter, tile; the focus is seen; Enter opens the host."""
    host = await site.host("web-1")
    await host.usage(20.0)
    await live(page)
    await expect(page.locator(".tile")).to_be_visible()
    focused = []
    for _ in range(7):
        await page.keyboard.press("Tab")
        focused.append(await page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", focused[-1]
    assert focused[0] == "Skip to content"
    assert focused[5] == "host-filter"
    assert focused[6].startswith("web-1")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("web-1")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.go_back()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")


async def test_the_worst_of_many_hosts_come_first_and_a_filter_finds_one(page: Page, site: Site) -> None:
    """200 hosts are shown; a critical one moves to the front by itself; the filter reads names and labels."""
    hosts = [await site.host(f"node-{n}", {"rack": f"r{n % 10}"}) for n in range(200)]
    for host in hosts:
        await host.usage(10.0)
    await live(page)
    tiles = page.locator(".tile")
    await expect(tiles).to_have_count(200)
    await expect(tiles.first).to_contain_text("node-0")
    await hosts[137].incident(TransitionKind.OPENED, 1)
    await expect(tiles.first).to_contain_text("node-137")
    await page.get_by_label("Filter").fill("rack=r3")
    await expect(tiles).to_have_count(20)
    await page.get_by_label("Filter").fill("node-42 online")
    await expect(tiles).to_have_count(1)
    await page.get_by_label("Filter").fill("nothing of the kind")
    await expect(page.get_by_role("heading", name="No host matches")).to_be_visible()


async def test_a_lost_collector_is_said_and_found_again(page: Page, site: Site, watch: Watch) -> None:
    """While it is away the page says so; when it is back the page has what it missed, without a reload."""
    host = await site.host("web-1")
    await host.usage(20.0)
    await live(page)
    await mark(page)
    watch.allowed = lambda text: "ERR_" in text  # the browser's own word for a connection refused
    await site.stop()
    await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    await expect(page.locator("#connection-text")).to_contain_text("Reconnecting since")
    await host.incident(TransitionKind.OPENED, 1)  # nobody listens: the agent would send it again
    await site.start()
    host.seq -= 1
    await host.incident(TransitionKind.OPENED, 1)
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=30_000)
    await expect(page.locator(".tile")).to_have_attribute("data-tone", "critical")
    assert await is_marked(page)


async def test_a_page_that_was_too_early_fills_itself(page: Page, site: Site, watch: Watch) -> None:
    """A link from Slack may be followed before the collector has heard: the page says so, and then shows it."""
    watch.allowed = lambda text: "404" in text
    await live(page, "/incidents/inc-web-1")
    await expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    host = await site.host("web-1")
    await host.incident(TransitionKind.OPENED, 1)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Disk / of web-1 is almost full")
    await live(page, "/hosts/web-2")
    await expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    await site.host("web-2")
    await expect(page.get_by_role("heading", level=1)).to_have_text("web-2")


async def test_one_page_holds_one_stream(page: Page, site: Site) -> None:
    """Going from page to page leaves no connection behind: a browser has six for all its tabs."""
    host = await site.host("web-1")
    await host.usage(20.0)
    await live(page)
    assert site.collector is not None
    for _ in range(3):
        await page.locator(".tile").click()
        await expect(page.locator('[data-chart="cpu, percent"] canvas')).to_be_visible()
        await page.get_by_role("link", name="Incidents").click()
        await expect(page.get_by_role("heading", name="Nothing is wrong")).to_be_visible()
        await page.get_by_role("link", name="Tocsin, to the fleet").click()
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    for turn in range(100):
        await host.birth("online" if turn % 2 else "offline")  # what every reader is told, so that the gone are noticed
        if site.collector.hub.listeners == 1:
            break
        await page.wait_for_timeout(50)
    assert site.collector.hub.listeners == 1


async def test_a_guarded_collector_asks_for_its_token(browser: Browser, guarded_site: Site, watch: Watch) -> None:
    """Off loopback: the page leads to the login, a wrong token is told, the right one opens the live page."""
    context = await browser.new_context(base_url=guarded_site.url)
    page = await context.new_page()
    watch.on(page, guarded_site.url)
    watch.allowed = lambda text: "401" in text
    await page.goto("/incidents")
    await expect(page).to_have_url(re.compile("/login$"))
    await page.get_by_label("Collector token").fill("guess")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not the collector's token")
    await page.get_by_label("Collector token").fill("open sesame")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    await context.close()
    assert watch.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(browser: Browser, site: Site, scheme: str) -> None:
    """Every tone's words have a contrast of at least 4.5 to 1 on their own ground, in both palettes."""
    context = await browser.new_context(base_url=site.url, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto("/")
    ratios = await page.evaluate(
        """() => {
      const style = getComputedStyle(document.documentElement);
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const light = (name) => {
        canvas.fillStyle = style.getPropertyValue(name).trim();
        canvas.fillRect(0, 0, 1, 1);
        const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((part) => linear(part / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const pairs = [
        ["--text", "--paper"], ["--text", "--surface"], ["--muted", "--paper"], ["--muted", "--surface"],
        ["--accent", "--surface"], ["--surface", "--accent"],
        ...["critical", "warning", "info", "ok", "unknown"].map((tone) => [`--${tone}`, `--${tone}-soft`])];
      return pairs.map(([ink, ground]) => {
        const [one, other] = [light(ink), light(ground)].sort((a, b) => b - a);
        return [`${ink} on ${ground}`, (one + 0.05) / (other + 0.05)];
      });
    }"""
    )
    await context.close()
    assert [pair for pair in ratios if pair[1] < 4.5] == []
