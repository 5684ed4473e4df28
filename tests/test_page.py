"""The page in a browser: what people do with it, step by step, and what it must never do."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Browser, browsing, missing
from conftest import Serve
from processes import ROOT, Server
from vega_datasets import data

pytestmark = pytest.mark.skipif(missing() != "", reason=missing())

SHOWN = ROOT / "tests/handlers/shown.py"
WEATHER = ROOT / "examples/weather/weather.py"
PICTURE = ROOT / "docs/page.png"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

SPEC = """
openapi: 3.1.0
info: {title: Assets, version: "1"}
paths:
  /assets/{asset}:
    get:
      operationId: getAsset
      parameters: [{name: asset, in: path, required: true, schema: {type: string}}]
      responses:
        "200":
          description: one
          content: {application/json: {example: {asset: pump, load: 3.5}}}
"""

# A file that falls onto an element, as far as a page can tell.
DROP = """
const [css, name, text] = arguments;
const data = new DataTransfer();
data.items.add(new File([text], name));
const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
document.querySelector(css).dispatchEvent(event);
"""

FOCUSED = "document.activeElement"

Open = Callable[[Server, str], Browser]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def failing() -> list[str]:
    """Answers that a test means to fail: `/shown/crash 502`. Chromium tells of each by itself."""
    return []


@pytest.fixture
def page(chromium: Browser, failing: list[str], serve: Serve) -> Iterator[Open]:
    """Open a view of a server's page; in the end nothing may have gone wrong in the browser."""
    # With `serve` among what it needs, the servers end after it: the page asks until then.
    del serve
    chromium.screen(1400, 900)
    chromium.console()
    chromium.said.clear()

    def go(server: Server, view: str = "") -> Browser:
        # A page of its own each time: going to another fragment would keep the old one.
        chromium.open("about:blank")
        chromium.open(f"{server.url}/#/{view}")
        chromium.wait_for("#status", "ready")
        chromium.wait("the routes", "document.querySelector('#list li') !== null")
        chromium.wait_for(".route-head h1" if view else ".overview", view.partition("/")[2][:6])
        return chromium

    yield go
    said = chromium.console()
    chromium.open("about:blank")
    meant = [
        re.compile(f"{path} .* status of {status} ") for path, status in map(str.split, failing)
    ]
    trouble = [line for line in said if not any(one.search(line) for one in meant)]
    chromium.media()
    assert trouble == []


def sent(browser: Browser, status: int) -> None:
    """Send what is in the form, and wait for this status."""
    browser.click(".send")
    browser.wait_for(".answer-line", str(status))


# === what people do ===


def test_routes_are_listed_and_found_with_their_docs(serve: Serve, page: Open) -> None:
    browser = page(serve(SHOWN, WEATHER), "")
    listed = browser.text("#list")
    assert "/weather/spread" in listed and "/forecast/{asset}" in listed
    browser.write("#search", "order")
    shown = browser.run(
        "return [...document.querySelectorAll('#list li')].filter("
        "(one) => one.checkVisibility()).map((one) => one.innerText)"
    )
    assert [text.split()[-1] for text in shown] == ["/shown/order"]
    browser.click("#list li:not([hidden]) a")
    browser.wait_for(".route-head h1", "/shown/order")
    assert "Take an order." in browser.text(".docs")
    assert "bolts are not" in browser.text(".docs li:last-child")
    form = browser.text(".form")
    assert "customer text of at least 2 characters" in form and "who pays" in form
    assert '"post" or "van"' in form
    browser.click(".type summary")
    assert "list of Line" in browser.text(".type dl")


def test_a_csv_dropped_into_a_form_becomes_a_table_and_a_chart(serve: Serve, page: Open) -> None:
    browser = page(serve(WEATHER), "POST/weather/spread")
    browser.wait_for(".drop", "Drop a CSV")
    browser.run(DROP, ".drop", "temps.csv", temperatures(days=40))
    browser.wait_for(".drop-name", "temps.csv")
    assert "2010-01-01T00:00:00,41.5" in browser.text(".drop-preview")
    sent(browser, 200)
    browser.wait_for(".answer .grid", "2010-01-01")
    assert browser.run("return document.querySelectorAll('.grid tbody tr').length") == 40
    curve = browser.run("return document.querySelector('.plot path.curve').getAttribute('d')")
    assert len(re.findall("[ML]", curve)) == 40
    browser.hover(".plot svg")
    browser.wait_for(".tip", "spread")
    # A part of it is looked at closer, and the whole again.
    browser.run("document.querySelector('.plot svg').focus()")
    browser.press("ArrowRight")
    browser.press("+")
    browser.wait(
        "fewer points",
        "document.querySelector('.plot path.curve').getAttribute('d').match(/[ML]/g).length < 40",
    )
    browser.click(".legend .quiet")
    browser.wait(
        "all points",
        "document.querySelector('.plot path.curve').getAttribute('d').match(/[ML]/g).length === 40",
    )
    # Headers sort, the largest first with the second press.
    browser.click(".grid th:nth-child(2) button")
    browser.click(".grid th:nth-child(2) button")
    cells = browser.run(
        "return [...document.querySelectorAll('.grid td:nth-child(2)')]"
        ".map((cell) => Number(cell.innerText))"
    )
    assert cells == sorted(cells, reverse=True) and cells[0] > cells[-1]


def test_a_crash_shows_its_signal_and_stack_and_others_are_served(
    serve: Serve, page: Open, failing: list[str]
) -> None:
    failing.append("/shown/crash 502")
    server = serve(SHOWN, args=["--workers", "2"])
    browser = page(server, "POST/shown/crash")
    sent(browser, 502)
    browser.wait_for(".problem", "SIGSEGV")
    browser.wait_for(".problem .frames", "_poke")
    assert "shown.py" in browser.text(".problem .frames")
    assert server.post("/shown/add", {"a": 40}).json() == 42
    # It is among the last calls, also after many that went well.
    for _ in range(220):
        assert server.post("/shown/add", {"a": 1}).status == 200
    browser.click(".home")
    browser.wait_for(".overview", "Last calls")
    browser.click("[data-key='calls Failures']")
    browser.wait_for(".list", "/shown/crash")
    browser.click("[data-key^='more ']")
    browser.wait_for("#detail", "_poke")
    assert "SIGSEGV" in browser.text("#detail")
    browser.press("Escape")
    browser.wait("the dialog to close", "!document.getElementById('detail').open")


def test_each_fault_is_shown_at_its_field(serve: Serve, page: Open, failing: list[str]) -> None:
    failing.append("/shown/order 422")
    browser = page(serve(SHOWN), "POST/shown/order")
    browser.write("[data-field=customer] textarea", "A")
    browser.write("[data-field=lines] textarea", '[{"item": "nut", "n": 0}, {}]')
    sent(browser, 422)
    browser.wait_for("[data-field=customer] .faults", "2")
    faults = browser.text("[data-field=lines] .faults")
    assert "/0/n must be at least 1, not 0" in faults and "/1/item" in faults
    assert browser.text("[data-field=ship] .faults") == ""
    assert (
        browser.run(
            "return document.querySelector('[data-field=customer] textarea')"
            ".getAttribute('aria-invalid')"
        )
        == "true"
    )
    # The pointer leads to its place in the text.
    browser.click("[data-field=lines] button.pointer")
    selected = browser.run(
        f"return {FOCUSED}.value.slice({FOCUSED}.selectionStart, {FOCUSED}.selectionEnd)"
    )
    assert selected == "0"
    browser.write("[data-field=customer] textarea", "Ada")
    browser.write("[data-field=lines] textarea", '[{"item": "nut", "n": 3}]')
    sent(browser, 200)
    browser.wait_for(".answer .grid", "pieces")
    assert browser.text("[data-field=customer] .faults") == ""


def test_what_is_not_json_is_not_sent(serve: Serve, page: Open) -> None:
    server = serve(SHOWN)
    browser = page(server, "POST/shown/order")
    browser.write("[data-field=lines] textarea", "[\n{]")
    browser.click(".send")
    browser.wait_for("[data-field=lines] .faults", "is not JSON")
    browser.wait_for(".answer-line", "Not sent")
    routes = server.get("/_exuvia/state.json").json()["routes"]
    assert [row["calls"] for row in routes if row["route"] == "POST /shown/order"] == [0]


def test_a_broken_module_is_named_with_its_traceback_and_the_others_are_served(
    serve: Serve, page: Open, tmp_path: Path
) -> None:
    broken = tmp_path / "risk.py"
    broken.write_text("def var() -> int:\n    return 1\n\nLIMIT = limit * 2\n")
    server = serve(SHOWN, WEATHER, broken)
    browser = page(server, "")
    browser.wait_for("#status", "risk is broken")
    browser.wait_for(".notice.bad h2", "risk")
    assert "LIMIT = limit * 2" in browser.text(".notice.bad pre")
    assert "NameError" in browser.text(".notice.bad")
    assert server.post("/shown/add", {"a": 1}).json() == 3
    assert server.post("/weather/hottest", {"days": 1}).status == 200


def test_operations_without_a_handler_are_named(serve: Serve, page: Open, tmp_path: Path) -> None:
    document = tmp_path / "spec.yaml"
    document.write_text(SPEC)
    browser = page(serve(SHOWN, args=["--openapi", str(document)]), "")
    browser.wait_for(".notice h2", "One operation has no handler yet")
    browser.click(".notice a")
    browser.wait_for(".route-head .note", "A stub")
    browser.write("[data-field=asset] input", "pump")
    sent(browser, 200)
    browser.wait_for(".answer .grid", "load")


def test_answers_are_read_bit_by_bit_and_calls_can_be_cancelled(serve: Serve, page: Open) -> None:
    server = serve(SHOWN, args=["--workers", "1", "--concurrency", "1"])
    browser = page(server, "POST/shown/ticks")
    browser.write("[data-field=n] input", "600")
    browser.click(".send")
    browser.wait_for(".pieces li:nth-child(3)", '"square":4')
    assert "Running" in browser.text(".answer-line")
    browser.click(".buttons .quiet")
    browser.wait_for(".answer-line", "Cancelled")
    # The only worker is free again.
    assert server.post("/shown/add", {"a": 1}).json() == 3
    browser.write("[data-field=n] input", "4")
    sent(browser, 200)
    browser.wait_for(".answer .grid", "square")
    assert browser.run("return document.querySelectorAll('.grid tbody tr').length") == 4
    browser.run("document.querySelector('.accept select').value = 'text/event-stream'")
    browser.write("[data-field=n] input", "3")
    sent(browser, 200)
    browser.wait("three rows", "document.querySelectorAll('.grid tbody tr').length === 3")


def test_texts_images_numbers_and_paths_are_shown_as_they_are(serve: Serve, page: Open) -> None:
    server = serve(SHOWN)
    browser = page(server, "POST/shown/big")
    sent(browser, 200)
    browser.wait_for(".answer .grid", "12345678901234567890")
    browser = page(server, "GET/picture")
    sent(browser, 200)
    browser.wait("the picture", "document.querySelector('img.picture')?.naturalWidth === 40")
    browser = page(server, "GET/forecast/%7Basset%7D")
    browser.write("[data-field=asset] input", "pump 1/2")
    browser.write("[data-field=hours] input", "2")
    browser.run(
        "const s = document.querySelector('[data-field=model] select');"
        "s.selectedIndex = [...s.options].findIndex((one) => one.text === 'last');"
    )
    sent(browser, 200)
    browser.wait_for(".answer .grid", "pump 1/2 last 1")
    browser.click(".curl summary")
    browser.wait_for(".curl pre", "pump%201%2F2?hours=2&model=last")


def test_what_a_call_printed_is_shown_with_it(serve: Serve, page: Open, failing: list[str]) -> None:
    failing.append("/shown/say 500")
    browser = page(serve(SHOWN), "POST/shown/say")
    browser.wait_for(".route-figures", "Not called yet")
    sent(browser, 500)
    browser.wait_for(".problem", "there is nothing to say")
    assert "in say" in browser.text(".problem pre")
    browser.wait_for(".answer .block", "that was it")
    browser.wait_for(".route-figures", "1 failed")
    browser.write("[data-field=text] textarea", "hello")
    sent(browser, 200)
    browser.wait_for(".answer .scalar", "5")
    browser.wait_for(".panel tbody tr:first-child", "200")
    browser.click(".panel tr:first-child [data-key^='more ']")
    browser.wait_for("#detail", "it says: hello")


def test_everything_can_be_done_by_keyboard(serve: Serve, page: Open) -> None:
    browser = page(serve(SHOWN), "")
    browser.press("Tab")
    assert browser.run(f"return {FOCUSED}.innerText") == "Skip to the content"
    assert browser.run(f"return {FOCUSED}.getBoundingClientRect().top") >= 0
    browser.press("/")
    assert browser.run(f"return {FOCUSED}.id") == "search"
    for letter in "shown/add":
        browser.press(letter)
    browser.press("Enter")
    browser.wait_for(".route-head h1", "/shown/add")
    tab_to(browser, "[data-field=a] input")
    outline = browser.run(f"return getComputedStyle({FOCUSED}).outlineStyle")
    assert outline == "solid"
    for letter in "40":
        browser.press(letter)
    browser.press("Control", "Enter")
    browser.wait_for(".answer-line", "200")
    browser.wait_for(".scalar", "42")
    live = browser.run("return document.querySelector('.answer-line').getAttribute('aria-live')")
    assert live == "polite"
    tab_to(browser, ".headers summary")
    browser.press("Enter")
    browser.wait_for(".headers dl", "exuvia-call-id")


def test_every_field_has_a_name_and_every_id_is_one(serve: Serve, page: Open) -> None:
    browser = page(serve(SHOWN, WEATHER), "")
    for view in views(browser):
        browser.run("location.hash = arguments[0]", view)
        browser.wait(view, "document.querySelector('.route') !== null")
        nameless = browser.run(
            "return [...document.querySelectorAll('input, select, textarea, button')]"
            ".filter((one) => one.checkVisibility() && !one.labels?.length && !one.innerText.trim()"
            " && !one.getAttribute('aria-label')).map((one) => one.outerHTML)"
        )
        assert nameless == [], view
        twice = browser.run(
            "const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);"
            "return ids.filter((id, at) => ids.indexOf(id) !== at)"
        )
        assert twice == [], view


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_small_phone(
    serve: Serve, page: Open, failing: list[str], tmp_path: Path, scheme: str
) -> None:
    failing += ["/shown/crash 502", "/shown/hostile 422", "/weather/seattle 500"]
    broken = tmp_path / "a_module_with_a_name_that_is_rather_long_for_a_phone.py"
    broken.write_text("raise ValueError('x' * 300)\n")
    server = serve(SHOWN, WEATHER, broken)
    server.post("/shown/crash")
    browser = page(server, "")
    browser.media(prefers_color_scheme=scheme)
    browser.screen(360, 740, mobile=True)
    fits(browser, "the overview")
    browser.click("#menu")
    browser.wait_for("#list", "/shown/crash")
    fits(browser, "the list")
    for view in views(browser):
        browser.run("location.hash = arguments[0]", view)
        browser.wait(view, "document.querySelector('.route') !== null")
        fits(browser, view)
    for view in ["#/POST/shown/crash", "#/POST/shown/hostile", "#/POST/weather/hottest"]:
        browser.run("location.hash = arguments[0]", view)
        browser.wait(
            view,
            "document.querySelector('.route h1').innerText.includes(arguments[0].slice(6))",
            view,
        )
        browser.click(".send")
        browser.wait(
            "an answer", "/^\\d{3}/.test(document.querySelector('.answer-line').innerText)"
        )
        fits(browser, f"the answer of {view}")
    shade = browser.run("return getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", shade)[0])
    assert (red > 200) == (scheme == "light")


# === what it must never do ===


def test_hostile_texts_stay_texts(serve: Serve, page: Open) -> None:
    server = serve(SHOWN)
    browser = page(server, "POST/shown/hostile")
    assert "<script>alert(1)</script>" in browser.text(".docs")
    browser.write("[data-field=text] textarea", "<img src=y onerror=alert(4)>")
    sent(browser, 200)
    browser.wait_for(".answer .grid", "<img src=y onerror=alert(4)>")
    browser.wait_for(".answer .grid th", "<i>name</i>")
    browser.click(".panel [data-key^='more ']")
    browser.wait_for("#detail", "<b>printed</b>")
    foreign = browser.run(
        "return document.querySelectorAll('main img, main script, main i:not("
        "[class]):not(:empty), #detail b:not(:empty), #detail img').length"
    )
    assert foreign == 0


def test_the_browser_is_told_to_run_nothing_else(serve: Serve, page: Open) -> None:
    server = serve(SHOWN)
    answer = server.request("GET", "/", headers={"accept": "text/html"})
    assert answer.status == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert server.get("/docs").body == answer.body
    script = server.get("/_exuvia/page.js")
    again = {"if-none-match": script.headers["etag"]}
    assert server.request("GET", "/_exuvia/page.js", headers=again).status == 304
    part = server.request("GET", "/_exuvia/page.js", headers={"range": "bytes=0-9"})
    assert (part.status, part.body) == (206, script.body[:10])
    # Everything that the page loads is the server's own.
    browser = page(server, "")
    names = "performance.getEntriesByType('resource').map((one) => one.name)"
    loaded = browser.run(f"return {names}")
    assert loaded and all(name.startswith(server.url) for name in loaded), loaded


def test_a_server_that_goes_away_is_said_and_one_that_comes_back_is_seen(
    serve: Serve, page: Open
) -> None:
    browser = page(serve(SHOWN), "POST/shown/add")
    browser.run("window.real = fetch; window.fetch = () => Promise.reject(new TypeError('gone'))")
    browser.wait_for("#status", "No contact with the server")
    browser.write("[data-field=a] input", "1")
    browser.click(".send")
    browser.wait_for(".answer-line", "No answer")
    browser.run("window.fetch = window.real")
    browser.wait_for("#status", "ready")
    sent(browser, 200)


# === the picture in docs/page.md ===


def test_the_picture_in_the_docs_shows_a_table_and_its_chart(
    serve: Serve, page: Open, tmp_path: Path
) -> None:
    server = serve(WEATHER, ROOT / "examples/battery/battery.py")
    server.post("/weather/hottest", {"days": 3})
    browser = page(server, "POST/weather/spread")
    browser.screen(1440, 920)
    browser.run(DROP, ".drop", "seattle.csv", data.seattle_temps().to_csv(index=False))
    browser.wait_for(".drop-name", "seattle.csv")
    sent(browser, 200)
    browser.wait_for(".answer .grid", "2010-01-01")
    browser.wait_for(".route-figures", "1 call")
    browser.run("document.activeElement.blur()")
    browser.hover(".plot svg", right=-150)
    browser.wait_for(".tip", "spread")
    picture = PICTURE if os.environ.get("UPDATE_DOCS") == "1" else tmp_path / PICTURE.name
    browser.picture(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    # The one in the docs is there, and of the same size.
    assert size_of(PICTURE) == size_of(picture)


# === helpers ===


def temperatures(days: int) -> str:
    """Readings of every third hour, which swing more as the year goes on."""
    lines = ["date,temp"]
    for day in range(days):
        month, number = 1 + day // 28, 1 + day % 28
        for hour in range(0, 24, 3):
            swing = 4 + day / 12 + 3 * ((day * 7919) % 13) / 13
            temp = 41.5 + day / 6 + swing * (1 - abs(hour - 15) / 9 if hour else 0)
            lines.append(f"2010-{month:02d}-{number:02d}T{hour:02d}:00:00,{temp:.1f}")
    return "\n".join(lines) + "\n"


def views(browser: Browser) -> list[str]:
    """Every route's view, as the list links to it."""
    links = "[...document.querySelectorAll('#list li a')].map((one) => one.getAttribute('href'))"
    found: list[str] = browser.wait(
        "the list", f"(() => {{ const all = {links}; return all.length ? all : null }})()"
    )
    return found


def fits(browser: Browser, what: str) -> None:
    width = browser.run("return document.documentElement.scrollWidth")
    assert width <= 360, f"{what} is {width} wide"


def tab_to(browser: Browser, css: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if browser.run(f"return {FOCUSED}?.matches(arguments[0])", css):
            return
        browser.press("Tab")
    raise AssertionError(f"Tab does not reach {css}")


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    head = picture.read_bytes()[16:24]
    return int.from_bytes(head[:4]), int.from_bytes(head[4:])
