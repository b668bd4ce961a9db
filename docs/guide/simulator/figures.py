"""Draws the pictures of docs/guide/simulator.md from what crates/sim/examples/figures.rs prints.

    cargo run --release -p sim --example figures | python docs/guide/simulator/figures.py docs/guide/simulator

Needs matplotlib.
"""

import json
import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection

CLASSES = ["motorway", "trunk", "primary", "arterial", "street"]
COLOURS = dict(zip(CLASSES, ["#2b5c8a", "#3f8f5f", "#b07d2b", "#9a5fb0", "#888888"]))
WIDTHS = dict(zip(CLASSES, [1.1, 0.7, 0.5, 0.3, 0.2]))
SPEED = dict(cmap="turbo_r", vmin=0, vmax=120)

plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})


def roads(axes, figures, colour=None):
    for name in reversed(CLASSES):
        lines = LineCollection(figures["roads"].get(name, []), linewidths=WIDTHS[name], zorder=1)
        lines.set_color(colour or COLOURS[name])
        axes.add_collection(lines)


def frame(axes, west, east, south, north):
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(1 / math.cos(math.radians((south + north) / 2)))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def dots(axes, vehicles, size):
    parked = [vehicle for vehicle in vehicles if vehicle[3]]
    moving = [vehicle for vehicle in vehicles if not vehicle[3]]
    axes.scatter([v[0] for v in parked], [v[1] for v in parked], s=size * 0.6, c="#bbbbbb", linewidths=0, zorder=2)
    return axes.scatter(
        [v[0] for v in moving], [v[1] for v in moving], s=size, c=[v[2] for v in moving], linewidths=0, zorder=3, **SPEED
    )


def save(figure, folder, name):
    figure.savefig(folder / f"{name}.png", bbox_inches="tight", pil_kwargs={"optimize": True})
    plt.close(figure)


def draw_map(figures, folder):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.6), layout="constrained")
    for axes in (left, right):
        frame(axes, -3.75, 1.45, 50.45, 53.2)
    left.set_title("1,000 vehicles, a Wednesday at 08:00 UTC: positions alone")
    dots(left, figures["vehicles"], 6)
    right.set_title("the same on their roads")
    roads(right, figures, "#c9c9c9")
    shown = dots(right, figures["vehicles"], 6)
    figure.colorbar(shown, ax=right, label="km/h (grey: parked)", shrink=0.7)
    save(figure, folder, "map")


def draw_network(figures, folder):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.6), layout="constrained")
    left.set_title("the network")
    roads(left, figures)
    frame(left, -3.75, 1.45, 50.45, 53.2)
    for name in CLASSES:
        left.plot([], [], color=COLOURS[name], label=name)
    left.legend(loc="lower left", frameon=False)
    right.set_title("London and around, 30,000 vehicles in all: positions alone")
    frame(right, -0.62, 0.36, 51.25, 51.75)
    shown = dots(right, figures["many_vehicles"], 2.5)
    figure.colorbar(shown, ax=right, label="km/h (grey: parked)", shrink=0.7)
    save(figure, folder, "network")


def draw_speeds(figures, folder):
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.4), layout="constrained", sharey=True)
    bins = [step * 0.03 for step in range(51)]
    for name, ax in zip(CLASSES, axes):
        for when, colour in [("evening", "#3f8f5f"), ("rush hour", "#c0392b")]:
            parts = figures["speeds"][when][name]
            ax.hist(parts, bins, density=True, histtype="step", color=colour, label=f"{when}, mean {sum(parts) / len(parts):.2f}")
        ax.set_title(name)
        ax.set_xlabel("mean speed / limit")
        ax.set_yticks([])
        ax.legend(frameon=False, fontsize=6, loc="upper left")
    save(figure, folder, "speeds")


def draw_gps(figures, folder):
    gps = figures["gps"]
    figure, (track, memory, sizes) = plt.subplots(1, 3, figsize=(12, 3), layout="constrained")
    track.plot([p[0] for p in gps["track_m"]], [p[1] for p in gps["track_m"]], lw=0.8)
    track.set_aspect("equal")
    track.set(title="one receiver's error, 20 minutes", xlabel="m east", ylabel="m north")
    lags = [row[0] for row in gps["autocorrelation"]]
    memory.plot(lags, [row[2] for row in gps["autocorrelation"]], color="#999999", label="expected")
    memory.plot(lags, [row[1] for row in gps["autocorrelation"]], "o", ms=3, label="found, 240 receivers")
    memory.set(title="autocorrelation", xlabel="seconds")
    memory.legend(frameon=False)
    sizes.hist(gps["errors"], 60, density=True, color="#9ab8d4", label="found")
    xs = [step * 0.05 for step in range(-70, 71)]
    normal = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in xs]
    sizes.plot(xs, normal, color="#555555", label="normal")
    sizes.set(title="error north / what the receiver says of itself", yticks=[])
    sizes.legend(frameon=False)
    save(figure, folder, "gps")


def draw_headways(figures, folder):
    headways = figures["headways"]
    mean = sum(headways) / len(headways)
    figure, axes = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
    axes.hist(headways, 40, density=True, color="#9ab8d4", label=f"found: {len(headways)}, mean {mean:.1f} s")
    xs = [step * max(headways) / 200 for step in range(201)]
    axes.plot(xs, [math.exp(-x / mean) / mean for x in xs], color="#555555", label="exponential")
    axes.set(title="seconds between vehicles of the fleet, busiest piece of motorway, noon", xlabel="s", yticks=[])
    axes.legend(frameon=False)
    save(figure, folder, "headways")


def draw_day(figures, folder):
    figure, axes = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
    for day, shares in figures["under_way"].items():
        axes.plot([slot / 2 + 0.25 for slot in range(48)], [share * 100 for share in shares], label=day)
    axes.set(title="share of the fleet under way", xlabel="hour, UTC", ylabel="%", xlim=(0, 24), xticks=range(0, 25, 3), ylim=(0, None))
    axes.legend(frameon=False)
    save(figure, folder, "day")


def draw_weather(figures, folder):
    weather = figures["weather"]
    figure, axes = plt.subplots(2, 4, figsize=(12, 5), layout="constrained")
    extent = (-3.6, -3.6 + 79 * 0.065, 50.6, 50.6 + 65 * 0.04)
    for column, moment in enumerate(weather["moments"]):
        for row, (index, title, style) in enumerate(
            [(0, "temperature, °C", dict(cmap="RdYlBu_r")), (1, "rain, mm/h", dict(cmap="Blues", vmin=0, vmax=3))]
        ):
            values = [[cell[index] for cell in line] for line in moment["grid"]]
            if index == 0:
                every = [cell[0] for other in weather["moments"] for line in other["grid"] for cell in line]
                style = style | dict(vmin=min(every), vmax=max(every))
            ax = axes[row][column]
            image = ax.imshow(values, origin="lower", extent=extent, aspect=1.62, **style)
            ax.set(xticks=[], yticks=[], title=f"{title}, {3 * (column - 1):+d} h" if column != 1 else title)
            if column == 2:
                figure.colorbar(image, ax=ax, shrink=0.8)
    year, alike = axes[0][3], axes[1][3]
    year.plot([step / 4 for step in range(len(weather["year"]))], weather["year"], lw=0.3)
    year.set(title="a year near Oxford, °C", xlabel="days from 7 January")
    for index, name in [(1, "temperature"), (2, "rain")]:
        alike.plot([row[0] for row in weather["correlation"]], [row[index] for row in weather["correlation"]], label=name)
    alike.axhline(0, color="#999999", lw=0.5)
    alike.set(title="correlation of two places", xlabel="km apart")
    alike.legend(frameon=False)
    save(figure, folder, "weather")


def draw_incidents(figures, folder):
    incidents = figures["incidents"]
    figure, (hours, rain, places) = plt.subplots(1, 3, figsize=(12, 3), layout="constrained")
    hours.bar([hour + 0.5 for hour in range(24)], incidents["per_hour"], color="#c0392b")
    hours.set(title="incidents an hour, working days", xlabel="hour, UTC", xticks=range(0, 25, 3))
    classes = ["dry", "to 1 mm/h", "to 2 mm/h", "more"]
    accidents, others = (incidents["by_rain"][kind] for kind in ("accidents", "others"))
    base = accidents[0] / others[0]
    rain.bar(classes, [a / o / base if o else 0 for a, o in zip(accidents, others)], color="#2b5c8a")
    rain.set(title="accidents for one other incident, dry = 1")
    roads(places, figures, "#d5d5d5")
    places.scatter([p[0] for p in incidents["places"]], [p[1] for p in incidents["places"]], s=2, c="#c0392b", linewidths=0, zorder=3)
    places.set_title(f"where: the first {len(incidents['places'])}")
    frame(places, -3.75, 1.45, 50.45, 53.2)
    save(figure, folder, "incidents")


def main(folder):
    figures = json.load(sys.stdin)
    folder = Path(folder)
    for draw in (draw_map, draw_network, draw_speeds, draw_gps, draw_headways, draw_day, draw_weather, draw_incidents):
        draw(figures, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
