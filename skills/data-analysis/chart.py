"""A horizontal bar chart as SVG text."""

from xml.sax.saxutils import escape

WIDTH = 640
LABEL = 170
BAR = 22
GAP = 8
TOP = 44
MAX_BARS = 40
LABEL_CHARS = 24


def shorten(text):
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= LABEL_CHARS else text[: LABEL_CHARS - 1] + "…"


def bar_chart(title, bars):
    """bars: (label, number) pairs; negative numbers go to the left of the zero line."""
    shown = bars[:MAX_BARS]
    low = min([0.0] + [value for _, value in shown])
    high = max([0.0] + [value for _, value in shown])
    scale = (WIDTH - LABEL - 80) / ((high - low) or 1)
    zero = LABEL - low * scale
    height = TOP + len(shown) * (BAR + GAP) + GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="26" font-size="16">{escape(title)}</text>',
    ]
    for i, (label, value) in enumerate(shown):
        y = TOP + i * (BAR + GAP)
        length = abs(value) * scale
        x = zero if value >= 0 else zero - length
        out.append(f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(shorten(str(label)))}</text>')
        out.append(f'<rect x="{x:.1f}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" fill="#3b6fb6"/>')
        out.append(f'<text x="{x + length + 6:.1f}" y="{y + 15}">{value:g}</text>')
    out.append(f'<line x1="{zero:.1f}" y1="{TOP - 4}" x2="{zero:.1f}" y2="{height - GAP}" stroke="#333333"/>')
    out.append("</svg>\n")
    return "\n".join(out)
