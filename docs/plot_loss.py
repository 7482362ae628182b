#!/usr/bin/env python3
"""Draws metrics.jsonl of a run on text as an SVG: training and validation loss in bits per byte.

  python3 docs/plot_loss.py runs/demo/metrics.jsonl docs/loss.svg [--level "order 3=2.15" ...]

A level is a horizontal line with its name, for example the entropy of the text.
"""

import argparse
import json
import math

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 16, 40


def read(path):
    train, validation = [], []
    with open(path) as lines:
        for line in map(json.loads, lines):
            if line.get("loss") is not None:
                train.append((line["step"], line["loss"] / math.log(2)))
            if line.get("bits_per_byte") is not None:
                validation.append((line["step"], line["bits_per_byte"]))
    return train, validation


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics")
    parser.add_argument("svg")
    parser.add_argument("--level", action="append", default=[], help="NAME=BITS")
    args = parser.parse_args()
    train, validation = read(args.metrics)
    if not train:
        parser.error(f"{args.metrics} has no step with a loss")
    last = max(step for step, _ in train + validation)
    top = max(1, math.ceil(max(bits for _, bits in train)))

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(bits):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - bits / top)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif" font-size="11">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']

    def text(at_x, at_y, label, anchor="middle", color="black"):
        parts.append(f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{color}">'
                     f'{label}</text>')

    def rule(bits, color):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(bits):.1f}" y2="{y(bits):.1f}" '
                     f'stroke="{color}"/>')

    for bits in range(top + 1):
        rule(bits, "#ddd")
        text(LEFT - 6, y(bits) + 4, bits, "end")
    for i in range(5):
        text(x(last * i / 4), HEIGHT - BOTTOM + 16, round(last * i / 4))
    text((WIDTH + LEFT) / 2, HEIGHT - 6, "step")
    text(LEFT + 6, TOP + 10, "bits per byte", "start")
    for level in args.level:
        name, _, bits = level.rpartition("=")
        rule(float(bits), "#999")
        text(WIDTH - RIGHT, y(float(bits)) - 3, level.replace("=", ": "), "end", "#777")
    points = " ".join(f"{x(step):.1f},{y(bits):.1f}" for step, bits in train)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#36c"/>')
    for step, bits in validation:
        parts.append(f'<circle cx="{x(step):.1f}" cy="{y(bits):.1f}" r="4" fill="#c30"/>')
        text(x(step), y(bits) - 8, f"{bits:.2f}", "end" if step == last else "middle", "#c30")
    parts.append("</svg>")
    with open(args.svg, "w") as svg:
        svg.write("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
