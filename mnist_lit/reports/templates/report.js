// Connects each table with its plots: sorting, filtering, and the rows whose curves are drawn.
const plots = JSON.parse(document.getElementById("plots").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

const axisOf = {
  epoch: (curve, step) => step / curve.steps_per_epoch,
  step: (curve, step) => step,
  samples: (curve, step) => step * curve.samples_per_step,
};

function drawnRows(section) {
  const rows = [...section.querySelectorAll(".board tbody tr:not([hidden])")];
  return new Set(rows.filter((row) => row.querySelector("input").checked).map((row) => Number(row.dataset.row)));
}

// The points of the drawn rows for one plot. Zero has no place on a logarithmic axis, so it is drawn at the lower edge.
function pointsOf(section, chart, unit) {
  const drawn = drawnRows(section);
  const points = plots[section.id].curves
    .filter((curve) => drawn.has(curve.row) && (!chart.loss || chart.loss === curve.loss))
    .flatMap((curve) => [["train", "training"], ["val", "validation"]].flatMap(([name, split]) => {
      const [steps, values] = curve.curves[`${name}_${chart.metric}`];
      return steps.map((step, i) => {
        const value = chart.metric === "acc" ? 1 - values[i] : values[i];
        return { x: axisOf[unit](curve, step), value, split, label: curve.label, color: curve.color };
      });
    }));
  const least = Math.min(...points.map((point) => point.value).filter((value) => value > 0));
  for (const point of points) point.y = point.value > 0 ? point.value : least / 1.5;
  return points;
}

// 1, 2 and 5 of each power of ten; undefined if there are too few in the range, so that Vega chooses.
function ticks(least, most) {
  const powers = Array.from({ length: 40 }, (_, i) => 10 ** (i - 20));
  const shown = powers.flatMap((power) => [power, 2 * power, 5 * power]).filter((tick) => least <= tick && tick <= most);
  return shown.length < 3 ? undefined : shown.length < 10 ? shown : shown.filter((tick) => Number.isInteger(Math.log10(tick)));
}

const range = (values) => [Math.min(...values), Math.max(...values)];

function fillCurves(section, chart, spec) {
  const unit = section.querySelector("input[type=radio]:checked").value;
  const points = pointsOf(section, chart, unit);
  const [least, most] = range(points.map((point) => point.y));
  const last = Math.ceil(Math.max(...points.map((point) => point.x)));
  const step = Math.ceil(last / 8);
  const epochs = Array.from({ length: Math.floor(last / step) + 1 }, (_, number) => number * step);
  for (const { encoding } of spec.layer) {
    encoding.x.title = encoding.tooltip[2].title = unit;
    if (unit === "epoch") encoding.x.axis.values = epochs;
    encoding.y.scale.domain = [least / 1.1, most * 1.1];
    encoding.y.axis.values = ticks(least / 1.1, most * 1.1);
  }
  spec.datasets = { points };
  return points.length;
}

function fillRows(section, chart, spec) {
  const drawn = drawnRows(section);
  const rows = chart.values.filter((value) => drawn.has(value.index));
  const [least, most] = range(rows.flatMap((row) => [row.test_acc, row.reference]).filter((value) => value != null));
  const margin = (most - least) * 0.08 || 0.005;
  for (const { encoding } of spec.layer) encoding.x.scale.domain = [least - margin, Math.min(1, most + margin)];
  spec.datasets = { rows };
  return rows.length;
}

function theme() {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [text, muted, line] = ["--text", "--muted", "--line"].map(color);
  const words = { labelColor: text, titleColor: muted, labelFontSize: 11.5, titleFontWeight: 400 };
  return {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { ...words, gridColor: line, domainColor: muted, tickColor: muted }, legend: { ...words, symbolStrokeColor: text },
  };
}

// Vega-Lite looks for text in the wrong place when a tooltip belongs to the nearest point (`datum.datum` is the point).
function patch(spec) {
  for (const mark of spec.marks.filter((mark) => mark.name?.endsWith("voronoi"))) {
    const { tooltip } = mark.encode.update;
    tooltip.signal = tooltip.signal.replaceAll("datum.datum[", "datum[").replaceAll("datum[", "datum.datum[");
  }
  return spec;
}

async function draw(section, figure) {
  const chart = plots[section.id].charts[figure.dataset.chart];
  const spec = structuredClone(chart.spec);
  const fill = { curves: fillCurves, rows: fillRows }[chart.kind];
  figure.parentElement.hidden = Boolean(fill) && !fill(section, chart, spec);
  if (figure.parentElement.hidden) return;
  if (figure.clientWidth < 450)
    for (const layer of spec.layer ?? [spec])
      if (layer.encoding?.y?.axis?.labelLimit) layer.encoding.y.axis.labelLimit = figure.clientWidth / 2.6;
  figure.view?.finalize();
  const actions = { export: true, source: false, compiled: false, editor: false };
  const options = { renderer: "svg", actions, patch, config: theme(), downloadFileName: chart.title };
  figure.view = (await vegaEmbed(figure, spec, options)).view;
}

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries)
    if (isIntersecting) {
      near.unobserve(target);
      target.drawn = true;
      draw(target.closest("section"), target);
    }
}, { rootMargin: "600px" });

function redraw(section) {
  for (const figure of section.querySelectorAll(".plot")) if (figure.drawn) draw(section, figure);
}

// Each word has to be in the row. A word with `=` has to be one of its options.
function matches(row, words) {
  const text = row.textContent.toLowerCase();
  const options = row.dataset.options.toLowerCase().split(" ");
  return words.every((word) => (word.includes("=") ? options.includes(word) : text.includes(word)));
}

function sortBy(table, column, direction) {
  const number = (text) => parseFloat(text.replace(/[,%]/g, ""));
  const key = (row) => row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows].sort((one, two) => {
    const [a, b] = [key(one), key(two)], [x, y] = [number(a), number(b)];
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // cells without a number come last
    return direction * (isNaN(x) ? a.localeCompare(b) : x - y);
  });
  table.tBodies[0].append(...rows);
}

for (const section of document.querySelectorAll("section[id]")) {
  const table = section.querySelector(".board");
  const filter = section.querySelector("input[type=search]");
  let waiting;
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) row.hidden = !matches(row, words);
    const left = rows.filter((row) => !row.hidden).length;
    section.querySelector(".count").textContent = words.length ? `${left} of ${rows.length} rows` : "";
    clearTimeout(waiting);
    waiting = setTimeout(() => redraw(section), 150);
  });
  table?.addEventListener("click", ({ target }) => {
    const heading = target.closest("th");
    if (!target.matches("button")) return;
    const direction = heading.ariaSort === "descending" || !heading.ariaSort && !heading.dataset.largest ? 1 : -1;
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.ariaSort = direction === 1 ? "ascending" : "descending";
    sortBy(table, heading.cellIndex, direction);
  });
  const all = table?.querySelector("thead input");
  section.addEventListener("change", ({ target }) => {
    if (target === all) for (const box of table.querySelectorAll("tbody tr:not([hidden]) input")) box.checked = all.checked;
    if (target.matches("input[type=checkbox], input[type=radio]")) redraw(section);
  });
  for (const figure of section.querySelectorAll(".plot")) near.observe(figure);
}

dark.addEventListener("change", () => document.querySelectorAll("section[id]").forEach((section) => redraw(section)));

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.matches("details")) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
