"""The annotated picture: what was said of a part, and where, readable at a glance from a metre away.

In: verdict, job and recipe; out: an RGB picture. A bar with the evaluation as a word and in colour (the word alone
says it too), then each region enlarged with a box around every pin: thin grey OK, thick red defective with its mode,
amber not decidable. Draws only; no files. The only home of Pillow besides `station.composite`.
"""

import functools

from PIL import Image, ImageDraw, ImageFont

from station.recipe import Recipe, Region
from station.records import Evaluation, Job, PinReport, RegionCrop, RegionReport, Verdict

Colour = tuple[int, int, int]

MIN_WIDTH_PX = 960
REGION_WIDTH_PX = 1600
MAX_ENLARGE = 4
"""A region is enlarged by a whole number, until it is so wide at most."""
BAR_PX = 124
FOOT_PX = 34
MARGIN_PX = 16

WHITE, BLACK, PAPER, GREY = (255, 255, 255), (0, 0, 0), (32, 34, 37), (176, 180, 186)
GREEN, RED, AMBER = (0x1B, 0x6E, 0x3C), (0xB3, 0x26, 0x1E), (0xFF, 0xC2, 0x0A)
BRIGHT_RED = (0xFF, 0x4B, 0x3E)
"""The red of the boxes: the bar's red is too dark on a dark part."""

_BAR: dict[Evaluation, tuple[Colour, Colour, str]] = {
    Evaluation.OK: (GREEN, WHITE, "OK"),
    Evaluation.NOT_OK: (RED, WHITE, "NOT OK"),
    Evaluation.NOT_DECIDABLE: (AMBER, BLACK, "NOT DECIDABLE"),
    Evaluation.UNDEFINED: (AMBER, BLACK, "UNDEFINED"),
}
"""Background, text colour and word of each evaluation."""


_WORST_LAST = (Evaluation.UNDEFINED, Evaluation.OK, Evaluation.NOT_DECIDABLE, Evaluation.NOT_OK)


def annotate(verdict: Verdict, job: Job, recipe: Recipe) -> Image.Image:
    """Return the annotated picture of `verdict`, RGB."""
    crops = {crop.region_id: crop for crop in job.crops}
    reports = {report.region_id: report for report in verdict.regions}
    panels = [
        _region_panel(region, crops[region.region_id], reports.get(region.region_id), _pin_side_px(recipe, region))
        for region in recipe.file.regions
        if region.region_id in crops
    ]
    width_px = max([MIN_WIDTH_PX, *(panel.width for panel in panels)])
    parts = [_bar(verdict, width_px), *(panels or [_no_picture(verdict, width_px)]), _foot(verdict, width_px)]
    canvas = Image.new("RGB", (width_px, sum(part.height for part in parts)), PAPER)
    top_px = 0
    for part in parts:
        canvas.paste(part, ((width_px - part.width) // 2, top_px))
        top_px += part.height
    return canvas


def _bar(verdict: Verdict, width_px: int) -> Image.Image:
    """Return the bar on top: the evaluation's word, why, and which part it is about."""
    background, colour, word = _BAR[verdict.evaluation]
    bar = Image.new("RGB", (width_px, BAR_PX), background)
    draw = ImageDraw.Draw(bar)
    draw.text((MARGIN_PX, 8), word, colour, _font(56))
    left_px = MARGIN_PX + int(draw.textlength(word, _font(56))) + 28
    lines = _wrapped(_why(verdict), 22, width_px - left_px - MARGIN_PX)[:2]
    for number, line in enumerate(lines):
        draw.text((left_px, 16 + 27 * number), line, colour, _font(22))
    identity = f"{verdict.image.name}   {verdict.created_utc[:19].replace('T', ' ')} UTC   {verdict.recipe}"
    draw.text((MARGIN_PX, BAR_PX - 38), _cut(identity, 20, width_px - 2 * MARGIN_PX), colour, _font(20))
    return bar


def _foot(verdict: Verdict, width_px: int) -> Image.Image:
    """Return the line below: where the verdict is found again, and a loud word if no model judged."""
    foot = Image.new("RGB", (width_px, FOOT_PX), WHITE if verdict.is_simulated else PAPER)
    colour = BLACK if verdict.is_simulated else GREY
    parts = [f"job {verdict.job_id}", f"verdict {verdict.epoch}:{verdict.seq}", verdict.model.name]
    line = "   ".join(["SIMULATED: no model judged this", *parts] if verdict.is_simulated else parts)
    ImageDraw.Draw(foot).text((MARGIN_PX, 7), _cut(line, 18, width_px - 2 * MARGIN_PX), colour, _font(18))
    return foot


def _why(verdict: Verdict) -> str:
    if verdict.evaluation is Evaluation.OK:
        counted = sum(region.pins_counted or 0 for region in verdict.regions)
        return f"{counted} pins"
    if verdict.detail and verdict.regions:
        return verdict.detail
    return verdict.reason.name.lower().replace("_", " ")


def _no_picture(verdict: Verdict, width_px: int) -> Image.Image:
    """Return what is shown when no region was cut from the picture."""
    lines = ["No region was cut from this picture.", *_wrapped(verdict.detail, 24, width_px - 2 * MARGIN_PX)]
    panel = Image.new("RGB", (width_px, 2 * MARGIN_PX + 34 * len(lines)), PAPER)
    draw = ImageDraw.Draw(panel)
    for number, line in enumerate(lines):
        draw.text((MARGIN_PX, MARGIN_PX + 34 * number), line, WHITE, _font(24))
    return panel


def _region_panel(region: Region, crop: RegionCrop, report: RegionReport | None, pin_side_px: float) -> Image.Image:
    """Return one region enlarged, its pins boxed, with a caption above."""
    enlarge = max(1, min(MAX_ENLARGE, REGION_WIDTH_PX // crop.width_px))
    pixels = Image.frombytes("RGB", (crop.width_px, crop.height_px), crop.pixels_rgb)
    pixels = pixels.resize((crop.width_px * enlarge, crop.height_px * enlarge), Image.Resampling.BICUBIC)
    found = _pins(region, report)
    _draw_pins(ImageDraw.Draw(pixels), region, found, enlarge, pin_side_px)
    width_px = max(pixels.width, MIN_WIDTH_PX)
    caption = [
        line for text in _caption(region, report, found) for line in _wrapped(text, 20, width_px - 2 * MARGIN_PX)
    ]
    caption_px = 10 + 26 * len(caption)
    panel = Image.new("RGB", (width_px, caption_px + pixels.height), PAPER)
    draw = ImageDraw.Draw(panel)
    for number, line in enumerate(caption):
        draw.text((MARGIN_PX, 4 + 26 * number), line, WHITE, _font(20))
    panel.paste(pixels, ((width_px - pixels.width) // 2, caption_px))
    return panel


def _caption(region: Region, report: RegionReport | None, pins: list[PinReport]) -> list[str]:
    if report is None:
        return [f"{region.region_id}: no answer"]
    counted = "-" if report.pins_counted is None else report.pins_counted
    p_defect = "-" if report.p_defect is None else f"{report.p_defect:.3f}"
    said = [f"{region.region_id}: {counted} of {report.pins_expected} pins, highest p(defect) {p_defect}"]
    for title, evaluation in (("defective", Evaluation.NOT_OK), ("not decidable", Evaluation.NOT_DECIDABLE)):
        labels = [_label(pin) for pin in pins if pin.evaluation is evaluation]
        if labels:
            said.append(f"{title}: {', '.join(labels)}")
    return said


def _draw_pins(draw: ImageDraw.ImageDraw, region: Region, pins: list[PinReport], enlarge: int, side_px: float) -> None:
    """Box every pin; the worst last, so that nothing covers it."""
    places = {pin.pin_id: (pin.x - region.box.x, pin.y - region.box.y) for pin in region.pins}
    half_px = side_px * enlarge / 2
    for pin in sorted(pins, key=lambda pin: _WORST_LAST.index(pin.evaluation)):
        x_px, y_px = (value * enlarge for value in places[pin.pin_id])
        _draw_pin(draw, pin, (x_px - half_px, y_px - half_px, x_px + half_px, y_px + half_px))


def _draw_pin(draw: ImageDraw.ImageDraw, pin: PinReport, box: tuple[float, float, float, float]) -> None:
    if pin.evaluation is Evaluation.NOT_OK:
        draw.rectangle(box, outline=BRIGHT_RED, width=6)
        _tag(draw, box, pin, WHITE, RED)
    elif pin.evaluation is Evaluation.NOT_DECIDABLE:
        draw.rectangle(box, outline=AMBER, width=5)
        _tag(draw, box, pin, BLACK, AMBER)
    else:
        draw.rectangle(box, outline=GREY, width=1)
        draw.text((box[0] + 3, box[3] - 19), pin.pin_id, GREY, _font(15), stroke_width=2, stroke_fill=BLACK)


def _tag(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    pin: PinReport,
    colour: Colour,
    background: Colour,
) -> None:
    """Write what was found above the pin's box; only the pin's id where there is no room for more."""
    font = _font(20)
    label = _label(pin)
    if font.getlength(label) + 10 > box[2] - box[0]:
        label = pin.pin_id
    width_px, height_px = font.getlength(label) + 10, 26
    left_px = max(0.0, min(box[0], draw.im.size[0] - width_px))
    top_px = max(0.0, box[1] - height_px)
    draw.rectangle((left_px, top_px, left_px + width_px, top_px + height_px), fill=background)
    draw.text((left_px + 5, top_px + 1), label, colour, font)


def _label(pin: PinReport) -> str:
    mode = f" {pin.defect_mode}" if pin.evaluation is Evaluation.NOT_OK else ""
    p_defect = f" {pin.p_defect:.2f}" if pin.p_defect >= 0 else ""
    return f"{pin.pin_id}{mode}{p_defect}"


def _pins(region: Region, report: RegionReport | None) -> list[PinReport]:
    """Return what is known of every pin; of a region asked as a whole, what follows from its report."""
    if report is not None and report.pins:
        return list(report.pins)
    named = report.defect_position.split(";") if report is not None else []
    mode = report.defect_mode if report is not None else "none"
    whole = Evaluation.UNDEFINED if report is None else report.evaluation
    rest = Evaluation.OK if whole is Evaluation.OK else Evaluation.UNDEFINED
    return [
        PinReport(
            pin_id=pin.pin_id,
            evaluation=whole if pin.pin_id in named else rest,
            p_defect=-1.0,
            defect_mode=mode,
        )
        for pin in region.pins
    ]


def _pin_side_px(recipe: Recipe, region: Region) -> float:
    """Return the side of a pin's box, golden px: its tile, but never overlapping the next pin's box."""
    distances = [
        max(abs(pin.x - other.x), abs(pin.y - other.y))
        for pin in region.pins
        for other in region.pins
        if pin is not other
    ]
    return min([float(recipe.file.pins.tile_px), *(0.9 * distance for distance in distances)])


def _wrapped(text: str, size_px: int, width_px: int) -> list[str]:
    """Return `text` in lines that are no wider than `width_px`, if its words allow."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(size_px).getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _cut(text: str, size_px: int, width_px: int) -> str:
    """Return `text`, with its end left out if it is wider than `width_px`."""
    font = _font(size_px)
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "...") > width_px:
        text = text[:-1]
    return text + "..."


@functools.cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"  # noqa: S101
    return font
