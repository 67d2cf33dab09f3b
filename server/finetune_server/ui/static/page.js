// Draws the losses that a page has, and draws them again when the page gets others. What is drawn, the page also says in words.
"use strict";

const charts = new WeakMap();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function options(width) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { stroke: colour("--rule") } };
  return {
    width,
    height: 240,
    scales: { x: { time: false } },
    axes: [{ ...axis }, { ...axis, size: 60 }],
    cursor: { drag: { x: false, y: false } },
    series: [
      { label: "step" },
      { label: "training", stroke: colour("--good"), width: 2, spanGaps: true },
      { label: "validation", stroke: colour("--open"), width: 2, dash: [6, 4], spanGaps: true, points: { show: true } },
    ],
  };
}

function draw(place, anew) {
  const source = place.parentElement.querySelector(".source data");
  const points = source ? JSON.parse(source.value) : [];
  let plot = charts.get(place);
  if (plot && (anew || points.length === 0)) {
    plot.destroy();
    plot = null;
  }
  if (points.length > 0) {
    const columns = [0, 1, 2].map((column) => points.map((point) => point[column]));
    if (plot) plot.setData(columns);
    else plot = new uPlot(options(place.clientWidth), columns, place);
  }
  charts.set(place, plot);
}

function drawAll(anew) {
  for (const place of document.querySelectorAll(".chart")) draw(place, anew);
}

document.addEventListener("DOMContentLoaded", () => drawAll(false));
document.addEventListener("htmx:afterSwap", () => drawAll(false));
document.addEventListener("htmx:sseMessage", () => drawAll(false));
window.addEventListener("resize", () => drawAll(true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(true));
