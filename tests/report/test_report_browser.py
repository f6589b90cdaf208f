"""The page in a real browser: a Chromium driven by Playwright.

Whichever is there is taken: Debian's, Chrome, or Playwright's own. Without one these tests are
skipped and say so, or fail where PRIORBENCH_REQUIRE_BROWSER=1, as ``.ci/run`` sets it.
"""

import os
import shutil

import pytest
from helpers.pages import HOSTILE, made_up

from priorbench.report.page import write_report

pytestmark = pytest.mark.slow

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser():
    def without(reason):
        if os.environ.get("PRIORBENCH_REQUIRE_BROWSER") == "1":
            pytest.fail(f"PRIORBENCH_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)

    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        without(f"playwright is not installed: {error}")
    binary = next(filter(None, map(shutil.which, BINARIES)), None)
    with sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        except Error as error:
            without(f"no Chromium starts: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = made_up(tmp_path_factory.mktemp("browser") / "run")
    write_report([str(folder)], folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def opened(browser, path):
    """Opens the page from disk; at the end nothing may have been said on the console nor asked for
    from anywhere.
    """
    said, asked, contexts = [], [], []

    def open_(width=1440, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
        return page

    yield open_
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.resolve().as_uri()] * len(
        contexts
    )
    for context in contexts:
        context.close()


def shown(page):
    """Texts of the cells of the visible rows, a list a row."""
    return page.evaluate(
        """[...document.querySelectorAll('.rows tbody tr')].filter((row) => !row.hidden)
             .map((row) => [...row.cells].map((cell) => cell.textContent))"""
    )


def column(page, name):
    heads = page.locator(".rows th button").all_text_contents()
    return [cells[heads.index(name)] for cells in shown(page)]


def head(page, name):
    return page.locator(".rows th button", has_text=name).filter(visible=True).first


def test_the_verdict_is_the_first_thing_seen_and_a_hostile_name_stays_text(opened):
    for width, height in ((1440, 900), (390, 844)):
        page = opened(width, height)
        title = page.locator("h1")
        where = f"{HOSTILE} at t_trunc = 200, 5 steps of dpm++, this fit (one seed)"
        assert title.inner_text().startswith(f"{where}: FID 3.00 ± 0.20")
        box = title.bounding_box()
        assert box["y"] + box["height"] < height
    for place in (".notes", "#samples", ".rows", "#quality-time .legend", "figcaption"):
        assert any(
            word in page.locator(place).first.inner_html() for word in ("&lt;img", "&lt;script")
        ), place
    assert page.locator("img[src='x']").count() == 0
    assert all(
        src.startswith("data:image/png")
        for src in page.eval_on_selector_all("img", "all => all.map(i => i.src)")
    )
    pictures = page.locator(".sprite:not(.nearest) img")
    for i in range(pictures.count()):
        pictures.nth(i).scroll_into_view_if_needed()
        page.wait_for_function(
            "i => document.querySelectorAll('.sprite:not(.nearest) img')[i].naturalWidth > 0", arg=i
        )


def test_every_figure_is_drawn_with_named_axes(opened):
    page = opened()
    figures = page.locator("#figures figure")
    assert figures.count() == 5
    for i in range(5):
        figure = figures.nth(i)
        assert figure.locator(".plot svg.main-svg").count() > 0
        for axis in ("xtitle", "ytitle"):
            assert len(figure.locator(f".{axis}").text_content()) > 5
        assert len(figure.locator(".plot").get_attribute("aria-label")) > 40


def test_hovering_shows_the_row(opened):
    page = opened()
    plot = page.locator("#quality-time .plot")
    plot.scroll_into_view_if_needed()
    at = plot.evaluate(
        """(gd, name) => {
          const i = gd.data.findIndex((t) => t.meta === name), {xaxis, yaxis} = gd._fullLayout;
          const box = gd.getBoundingClientRect(), {x, y} = gd.data[i];
          return [box.x + xaxis._offset + xaxis.d2p(x[0]), box.y + yaxis._offset + yaxis.d2p(y[0])];
        }""",
        HOSTILE,
    )  # fmt: skip
    page.mouse.move(at[0] - 40, at[1] - 40)
    page.mouse.move(at[0], at[1])
    page.wait_for_selector("#quality-time .hovertext")
    text = page.locator("#quality-time .hovertext").first.text_content()
    assert HOSTILE in text
    assert "t_trunc 200, dpm++, NFE 5" in text
    assert "FID 3 (2.8 to 3.2)" in text


def test_the_legend_switches_series_by_mouse_and_by_key(opened):
    page = opened()
    button = page.locator("#fid-t_trunc .legend button", has_text="vae_1")
    visible = "(gd) => gd.data.filter((t) => t.meta === 'vae_1').map((t) => t.visible)"
    plot = page.locator("#fid-t_trunc .plot")
    assert set(plot.evaluate(visible)) == {True}
    button.click()
    assert set(plot.evaluate(visible)) == {False}
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    assert set(plot.evaluate(visible)) == {True}


def test_figures_zoom_by_button_and_by_dragging_and_go_back(opened):
    page = opened()
    plot = page.locator("#quality-time .plot")
    plot.scroll_into_view_if_needed()
    width = "(gd) => gd._fullLayout.xaxis.range[1] - gd._fullLayout.xaxis.range[0]"
    whole = plot.evaluate(width)
    page.get_by_label("Zoom in: Quality against time").press("Enter")
    assert plot.evaluate(width) == pytest.approx(0.6 * whole)
    page.get_by_label("Show all: Quality against time").click()
    assert plot.evaluate(width) == pytest.approx(whole, rel=0.01)
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 600, box["y"] + 300, steps=5)
    page.mouse.up()
    page.wait_for_function(
        f"([gd, most]) => ({width})(gd) < most", arg=[plot.element_handle(), 0.5 * whole]
    )


def test_another_solver_setting_is_chosen(opened):
    page = opened()
    select = page.get_by_label("Solver and evaluations")
    assert select.input_value() == "dpm++, NFE 5"
    select.select_option("dpm++, NFE 3")
    assert "stores (flagged)" in page.locator("#fid-t_trunc .legend").inner_text()
    names = page.locator("#fid-t_trunc .plot").evaluate("(gd) => gd.data.map((t) => t.meta)")
    assert "stores (flagged)" in names


def test_the_table_sorts_with_empty_cells_last(opened):
    page = opened()
    head(page, "fid").click()
    values = column(page, "fid")
    numbers = [float(v) for v in values if v]
    assert numbers == sorted(numbers)
    assert len(numbers) > 5
    assert values[-1] == ""  # the row that failed
    head(page, "fid").press("Enter")
    values = column(page, "fid")
    numbers = [float(v) for v in values if v]
    assert numbers == sorted(numbers, reverse=True)
    assert values[-1] == ""
    head(page, "prior").click()
    assert column(page, "prior") == sorted(column(page, "prior"), key=str.lower)


def test_the_table_is_filtered_by_words_and_by_split(opened):
    page = opened()
    assert set(column(page, "split")) == {"test"}
    page.get_by_label("Filter rows").fill("vae_1 200")
    assert set(column(page, "prior")) == {"vae_1"}
    assert page.locator("#count").inner_text().startswith("2 of ")
    page.locator("#split").select_option("")
    assert page.locator("#count").inner_text().startswith("4 of ")
    page.get_by_label("Filter rows").fill("no such row")
    assert shown(page) == []
    page.get_by_label("Filter rows").fill("<script>alert(2)")
    assert column(page, "status") == ["failed"]
    before = page.locator(".rows th").filter(visible=True).count()
    page.get_by_label("all columns").check()
    assert page.locator(".rows th").filter(visible=True).count() > before


def test_the_nearest_training_images_are_shown_on_demand(opened):
    page = opened()
    nearest = page.locator(".sprite.nearest img").first
    assert not nearest.is_visible()
    page.get_by_label("nearest training image below each x_0").check()
    assert nearest.is_visible()


def test_light_and_dark_reach_the_figures(opened):
    for scheme, other in (("light", "Dark"), ("dark", "Light")):
        page = opened(color_scheme=scheme)
        ink = "getComputedStyle(document.body).color"
        font = "(gd) => gd.layout.font.color"
        plot = page.locator("#quality-time .plot")
        before = page.evaluate(ink), plot.evaluate(font)
        page.get_by_role("button", name=other, exact=True).click()
        after = page.evaluate(ink), plot.evaluate(font)
        assert before[0] != after[0]
        assert before[1] != after[1]


AXES = ".xtick text, .ytick text, .xtitle, .ytitle"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_on_a_phone(opened, scheme):
    page = opened(390, 844, color_scheme=scheme, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for i in range(5):
        plot = page.locator("#figures .plot").nth(i)
        outside = plot.evaluate(
            """(gd, axes) => { const box = gd.getBoundingClientRect();
              return [...gd.querySelectorAll(axes)].filter((t) => {
                const b = t.getBoundingClientRect();
                return b.left < box.left - 1 || b.right > box.right + 1 ||
                  b.top < box.top - 1 || b.bottom > box.bottom + 1;
              }).map((t) => t.textContent); }""",
            AXES,
        )
        assert outside == []


@pytest.mark.parametrize("width", [1440, 390])
def test_texts_of_axes_do_not_overlap(opened, width):
    page = opened(width)
    for i in range(5):
        plot = page.locator("#figures .plot").nth(i)
        overlapping = plot.evaluate(
            """(gd, axes) => {
              const texts = [...gd.querySelectorAll(axes)];
              const boxes = texts.map((t) => t.getBoundingClientRect()), found = [];
              boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b, j) => {
                if (a.left < b.right - 1 && b.left < a.right - 1 &&
                    a.top < b.bottom - 1 && b.top < a.bottom - 1)
                  found.push([texts[i].textContent, texts[i + 1 + j].textContent]);
              }));
              return found; }""",
            AXES,
        )
        assert overlapping == []


def test_it_prints(opened):
    page = opened(color_scheme="dark")
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#quality-time .main-svg").first.bounding_box()["width"] == 640
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert not page.locator("#theme").is_visible()
    assert not page.locator(".zoom").first.is_visible()


def test_without_scripts_all_but_the_figures_is_there(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.resolve().as_uri())
    assert page.locator("h1").inner_text().startswith(HOSTILE)
    assert page.locator(".rows tbody tr").count() > 20
    assert page.locator("noscript").inner_text().startswith("Figures and sorting need JavaScript")
    context.close()
