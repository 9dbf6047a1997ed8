"""The dashboard's modules by themselves, in the browser that runs them."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.services]


async def run(page: Page, module: str, body: str) -> Any:
    """What `body` returns, with the module's exports as `m`."""
    await page.goto("/login")
    return await page.evaluate(f"async () => {{ const m = await import('/static/js/{module}'); {body} }}")


async def test_values_join_one_time_axis(page: Page) -> None:
    """Rows with different times are aligned; live values come behind, late ones in between, repeated ones nowhere."""
    columns = await run(
        page,
        "series.js",
        """
        const table = new m.SeriesTable(0);
        table.load([
          {metric: "a", unit: "", kind: "gauge", labels: {}, points: [[10, 1], [30, 3]]},
          {metric: "b", unit: "", kind: "gauge", labels: {x: "1"}, points: [[20, 5]]},
        ]);
        table.append(40, {name: "a", value: 4});
        table.append(25, {name: "a", value: 2});
        table.append(40, {name: "b", value: 6, labels: {x: "1"}});
        table.append(40.0001, {name: "a", value: 4});
        return table.columns();
        """,
    )
    assert columns == [[10, 20, 25, 30, 40], [1, None, 2, 3, 4], [None, 5, None, None, 6]]


async def test_live_values_fall_into_the_steps_of_a_long_range(page: Page) -> None:
    """With a step each bucket is the mean of what fell into it."""
    columns = await run(
        page,
        "series.js",
        """
        const table = new m.SeriesTable(60);
        const live = [[120, 1], [120, 1], [130, 3], [130, 3], [179, 8], [180, 9]];
        for (const [time, value] of live) table.append(time, {name: "a", value});
        return table.columns();
        """,
    )
    assert columns == [[120, 180], [4, 9]]


async def test_a_counter_is_drawn_as_its_rate(page: Page) -> None:
    """Growth per second; where the counter starts anew there is no value, never a negative one."""
    columns = await run(
        page,
        "series.js",
        """
        const table = new m.SeriesTable(0);
        const points = [[10, 100], [20, 150], [30, 5], [40, 25]];
        table.load([{metric: "a", unit: "bytes", kind: "counter", labels: {}, points}]);
        return table.columns();
        """,
    )
    assert columns == [[10, 20, 30, 40], [None, 5, None, 2]]


async def test_old_values_are_forgotten_together(page: Page) -> None:
    """After a trim all columns are as long as the axis."""
    lengths = await run(
        page,
        "series.js",
        """
        const table = new m.SeriesTable(0);
        for (let time = 0; time < 200; time += 1) {
          for (const name of ["a", "b"]) table.append(time, {name, value: 1});
        }
        table.trim(150);
        const [times, ...values] = table.columns();
        return [times[0], times.length, ...values.map((column) => column.length)];
        """,
    )
    assert lengths == [150, 50, 50, 50]


async def test_quantities_read_as_people_write_them(page: Page) -> None:
    """Base units become the unit of their size."""
    cases = [
        (71.25, "percent", "71.3 %"),
        (0, "bytes", "0 B"),
        (1536, "bytes", "1.5 KiB"),
        (17179869184, "bytes", "16 GiB"),
        (2048, "bytes/s", "2 KiB/s"),
        (2**30, "bytes/h", "1 GiB/h"),
        (15, "percent/min", "15 %/min"),
        (0.00024, "seconds", "240 µs"),
        (0.0031, "seconds", "3.1 ms"),
        (59, "seconds", "59 s"),
        (3900, "seconds", "1 h 5 min"),
        (1036800, "seconds", "12 d"),
        (1680, "1/s", "1.68 k/s"),
        (3, "", "3"),
        (-2.5, "celsius", "-2.5 °C"),
        (None, "percent", "\N{EN DASH}"),
    ]
    shown = await run(
        page,
        "format.js",
        f"return {[list(case[:2]) for case in cases]!r}".replace("None", "null")
        + ".map(([v, u]) => m.quantity(v, u));",
    )
    assert shown == [case[2] for case in cases]


async def test_silence_is_told_as_such(page: Page) -> None:
    """Not as a value beside a limit: the value is how long it was when it was noticed."""
    words = await run(
        page,
        "words.js",
        """
        const silent = {state: "open", op: "absent", unit: "seconds", value: 10.8, limit: 10};
        return [m.figures(silent), m.figures({...silent, state: "resolved"})];
        """,
    )
    assert words == ["no data for 10 s", "had no data for 10 s"]


async def test_what_was_printed_was_not_delivered_to_slack(page: Page) -> None:
    """Without a token the channel is the terminal, and the words say so."""
    words = await run(
        page,
        "words.js",
        """
        const rows = [["delivered", "C123"], ["delivered", "terminal"], ["pending", "#alerts"]];
        return rows.map(([state, channel]) => m.deliveryWords({state, channel})[0]);
        """,
    )
    assert words == ["delivered to Slack", "printed on the terminal", "waiting to be sent to Slack"]
