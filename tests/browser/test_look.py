"""How the captions look: settings from the address and from the browser, themes, widths, and the overlay."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from tests.browser.chromium import chromium_page
from tests.browser.reading import LINES, LIVE, OPEN, Teller, lines, needs_chromium, style
from tests.daemon.house import house

pytestmark = needs_chromium

# The colours of the theme as the browser understands them: [r, g, b] by name.
COLOURS = """
Object.fromEntries(%s.map((name) => {
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.color = `var(--${name})`;
  const colour = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return [name, colour];
}))
"""
TEXTS = ("ink", "past", "tentative", "quiet", "accent", "warn")
SCROLL_FONT = "getComputedStyle(document.getElementById('scroll')).fontSize"


def luminance(colour: list[float]) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [value / 255 for value in colour]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


async def test_every_theme_has_enough_contrast_for_every_text() -> None:
    """WCAG AA: 4.5 for text, 3 for the outline of a control."""
    names = [*TEXTS, "ground", "raised", "on-accent", "control"]
    async with house() as home, chromium_page("about:blank") as page:
        for theme in ("dark", "light", "contrast"):
            await page.go(f"{home.address}?theme={theme}")
            await page.until(LIVE)
            colours = await page.value(COLOURS % names)
            for ground in ("ground", "raised"):
                for name in TEXTS:
                    assert contrast(colours[name], colours[ground]) >= 4.5, (theme, name, ground)
                assert contrast(colours["control"], colours[ground]) >= 3, (theme, ground)
            assert contrast(colours["on-accent"], colours["accent"]) >= 4.5, theme
            tentative, ink = colours["tentative"], colours["ink"]
            assert contrast(tentative, ink) > 1.5, f"{theme}: what may change looks as what is settled"


async def test_the_theme_follows_the_system_until_one_is_chosen() -> None:
    look = "document.documentElement.dataset.look"
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        for features, expected in (
            ({"dark": True}, "dark"),
            ({"dark": False}, "light"),
            ({"dark": False, "prefers_contrast": "more"}, "contrast"),
        ):
            await page.look(**features)  # type: ignore[arg-type]
            await page.until(f"{look} === '{expected}'")
        await page.go(f"{home.address}?theme=light")
        await page.look(dark=True)
        await page.until(f"{look} === 'light'")


async def test_settings_of_the_address_hold_and_wrong_ones_do_not() -> None:
    query = (
        "size=61px&lines=3&theme=light&font=mono&position=top&align=right&color=08f&background=%23fed&names=1"
    )
    async with house() as home, chromium_page(f"{home.address}?{query}&partials=0") as page:
        await page.until(LIVE)
        teller = Teller(home)
        for number in range(5):
            teller.final(f"line {number}")
        teller.partial(teller.start(), "not yet", " said")
        await page.until(f"{LINES}.length === 5")
        assert await page.value(SCROLL_FONT) == "61px"
        assert "mono" in await style(page, "#scroll", "fontFamily")
        assert await style(page, "#scroll", "textAlign") == "right"
        assert await style(page, "#scroll", "color") == "rgb(0, 136, 255)"
        assert await style(page, "body", "backgroundColor") == "rgb(255, 238, 221)"
        shown, height = await page.value(
            "[document.getElementById('scroll').clientHeight,"
            " parseFloat(getComputedStyle(document.getElementById('scroll')).lineHeight)]"
        )
        assert abs(shown - 3 * height) <= 1
        assert await page.value("document.querySelector('.name').checkVisibility()")
        assert not await page.value("document.querySelector('#open .text')?.checkVisibility()")
        wrong = "size=9&size=x&lines=none&theme=pink&font=%27&color=url(x)&background=1;2&names=2"
        await page.go(f"{home.address}?{wrong}")
        await page.until(LIVE)
        data = await page.value("({...document.documentElement.dataset})")
        assert (data["lines"], data["theme"], data["font"], data["color"], data["names"]) == (
            "all", "auto", "sans", "auto", "auto",
        )  # fmt: skip


async def test_what_is_chosen_is_kept_by_the_browser_and_leaves_the_address() -> None:
    async with house() as home, chromium_page(f"{home.address}?size=40px&theme=dark&stream=hall") as page:
        await page.until(LIVE)
        await page.press("s")
        await page.value("document.querySelector('[name=theme][value=light]').click()")
        await page.value("document.querySelector('[name=lines]').value = '4'")
        await page.value(
            "document.querySelector('[name=lines]').dispatchEvent(new Event('change', {bubbles: true}))"
        )
        await page.press("+")
        await page.until(f"{SCROLL_FONT} === '45px'")
        assert await page.value("location.search") == "?stream=hall"
        await page.go(home.address)
        await page.until(LIVE)
        data = await page.value("({...document.documentElement.dataset})")
        assert (data["look"], data["lines"], data["size"]) == ("light", "4", "45px")
        await page.go(f"{home.address}?theme=contrast")  # the address goes before what is kept
        await page.until("document.documentElement.dataset.look === 'contrast'")
        await page.press("s")
        await page.value("document.querySelector('[data-action=reset]').click()")
        assert await page.value("location.search") == ""
        assert await page.value("document.documentElement.dataset.lines") == "all"


async def test_the_addresses_that_are_offered_carry_the_look() -> None:
    async with house() as home, chromium_page(f"{home.address}?size=50px&theme=light&stream=hall") as page:
        await page.until(LIVE)
        await page.press("s")
        for action, expected in (
            ("copy-page", f"{home.address}?size=50px&theme=light&stream=hall"),
            ("copy-overlay", f"{home.address}overlay?size=50px&stream=hall"),
        ):
            await page.value(f"document.querySelector('[data-action={action}]').click()")
            await page.until(f"document.querySelector('#settings .said').textContent.endsWith('{expected}')")


@pytest.mark.parametrize(
    ("width", "height"), [(320, 568), (360, 740), (768, 1024), (1280, 720), (3840, 2160)]
)
async def test_nothing_runs_out_of_the_window(width: int, height: int) -> None:
    wide = "[...document.querySelectorAll('body *')].filter((one) => one.checkVisibility()).filter((one) => "
    wide += "one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.id || one.className)"
    async with house() as home, chromium_page(home.address) as page:
        await page.look(width=width, height=height)
        await page.until(LIVE)
        teller = Teller(home)
        teller.final("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft " * 2)
        teller.final("a name that is as long as a name may be", "n" * 64)
        await page.until(f"{LINES}.length === 2")
        for panel in ("", "c", "d", "s", "?"):
            if panel:
                await page.press(panel)
            assert await page.value(wide) == [], panel
            assert await page.value("document.documentElement.scrollWidth") <= width
        size = float((await page.value(SCROLL_FONT)).removesuffix("px"))
        assert size >= max(24, 0.03 * height), "readable across a room"


async def test_less_motion_is_respected() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.look(prefers_reduced_motion="reduce")
        await page.until(LIVE)
        teller = Teller(home)
        for number in range(20):
            segment = teller.start()
            teller.partial(segment, f"line {number}", " and more")
            teller.end(segment, f"line {number} and more")
        await page.until(f"{LINES}.length === 20")
        assert await page.value("document.getAnimations().length") == 0


async def test_the_overlay_is_transparent_short_and_says_nothing_else() -> None:
    async with house() as home, chromium_page(f"{home.address}overlay?lines=2&color=ff0") as page:
        await page.until(LIVE)
        teller = Teller(home)
        for number in range(4):
            teller.final(f"line {number}")
        await page.until(f"{LINES}.length === 2 && {LINES}[1] === 'line 3'")
        teller.partial(teller.start(), "line", " 4")
        await page.until(f"{OPEN}.length === 1")
        assert await style(page, "html", "backgroundColor") == "rgba(0, 0, 0, 0)"
        assert await style(page, "body", "backgroundColor") == "rgba(0, 0, 0, 0)"
        assert await style(page, "#scroll", "color") == "rgb(255, 255, 0)"
        assert await style(page, "#status", "display") == "none"
        assert "rgb" in await style(page, ".line", "textShadow")
        shown = await page.value("document.getElementById('scroll').clientHeight")
        line = await page.value("parseFloat(getComputedStyle(document.getElementById('scroll')).lineHeight)")
        assert abs(shown - 2 * line) <= 1
        assert page.complaints == []


@pytest.mark.parametrize(
    ("query", "selector", "name", "expected"),
    [
        ("background=000c", ".text", "backgroundColor", r"rgba\(0, 0, 0, 0\.8\)"),
        ("background=000c", ".line", "textShadow", "none"),
        ("edge=outline", ".line", "textShadow", r"rgb.*rgb.*rgb.*rgb"),
        ("edge=none", ".line", "textShadow", "none"),
        ("position=top", "#column", "justifyContent", "flex-start"),
        ("align=left", "#scroll", "textAlign", "left"),
        ("size=5vw", "#scroll", "fontSize", "64px"),
        ("font=dyslexic", "#scroll", "fontFamily", "Dyslexic"),
        ("names=1", ".name", "display", "inline"),
    ],
)
async def test_the_overlay_is_styled_by_its_address(
    query: str, selector: str, name: str, expected: str
) -> None:
    async with house() as home, chromium_page(f"{home.address}overlay?{query}") as page:
        await page.look()
        await page.until(LIVE)
        Teller(home).final("a line")
        await page.until(f"{LINES}.length === 1")
        assert re.search(expected, await style(page, selector, name))


async def test_the_overlay_fades_after_silence_and_begins_empty_again() -> None:
    async with house() as home, chromium_page(f"{home.address}overlay?fade=1&lines=3") as page:
        await page.until(LIVE)
        teller = Teller(home)
        teller.final("before the silence")
        await page.until(f"{LINES}.length === 1")
        await page.until("document.documentElement.classList.contains('faded')")
        await page.until(f"{LINES}.length === 0")
        teller.final("after it")
        await page.until(f"{LINES}.length === 1 && !document.documentElement.classList.contains('faded')")
        assert await lines(page) == ["after it"]
        assert await style(page, "#stage", "opacity") != "0"


def test_colours_are_compared_as_wcag_does() -> None:
    black, white, grey = [0.0] * 3, [255.0] * 3, [118.0] * 3
    assert round(contrast(black, white), 2) == 21
    assert round(contrast(grey, white), 2) == 4.54
    assert all(contrast(a, b) >= 1 for a, b in combinations((black, white, grey), 2))
