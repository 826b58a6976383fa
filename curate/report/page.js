// Draws the figures with plotly from the data beside them; adds sorting, hiding of datasets, downloads. The tables of
// the page read without it.
"use strict";
const failed = (words) => {
  const box = document.getElementById("script-error");
  box.textContent = "A script of this page failed: " + words + ". The tables below are complete without it.";
  box.hidden = false;
};
addEventListener("error", (event) => failed(event.message));
addEventListener("unhandledrejection", (event) => failed(String(event.reason)));

const CONFIG = {
  displaylogo: false,
  displayModeBar: "hover",
  responsive: true,
  logging: 0,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  toImageButtonOptions: { format: "png", scale: 2 },
};

// Datasets: which of them the legend shows.
const buttons = [...document.querySelectorAll("button[data-toggle]")];
const hidden = () => new Set(buttons.filter((b) => b.getAttribute("aria-pressed") !== "true").map((b) => b.dataset.toggle));
const seriesOf = (trace) => (trace.meta && trace.meta.series !== undefined ? String(trace.meta.series) : null);
const withVisibility = (data) => {
  const off = hidden();
  return data.map((trace) => (off.has(seriesOf(trace)) ? { ...trace, visible: false } : trace));
};

// Figures: one after another, those in folded parts when they are unfolded.
const drawn = new Set();
const draw = (place, number = 0) => {
  const found = JSON.parse(document.getElementById(place.id + "-data").textContent);
  const chosen = Array.isArray(found) ? found[number] : found;
  if (!drawn.has(place)) place.replaceChildren();
  drawn.add(place);
  return Plotly.react(place, withVisibility(chosen.data), chosen.layout, CONFIG).then(() => (place.dataset.drawn = "yes"));
};
const places = [...document.querySelectorAll("div.plot")];
const unfolded = (place) => !drawn.has(place) && !place.closest("details:not([open])");
const drawAll = () => {
  const place = places.find(unfolded);
  if (place) {
    draw(place);
    setTimeout(drawAll);
  }
};
drawAll();
addEventListener("toggle", drawAll, true);
addEventListener("beforeprint", () => places.filter(unfolded).forEach((place) => draw(place)));
for (const chooser of document.querySelectorAll("select[data-chooses]")) {
  chooser.addEventListener("change", () => draw(document.getElementById(chooser.dataset.chooses), Number(chooser.value)));
}
const showSeries = () => {
  const off = hidden();
  for (const place of drawn) {
    const numbered = (place.data || []).map((trace, number) => [seriesOf(trace), number]).filter(([series]) => series !== null);
    const set = (visible) => {
      const chosen = numbered.filter(([series]) => off.has(series) !== visible).map(([, number]) => number);
      return chosen.length ? Plotly.restyle(place, { visible }, chosen) : null;
    };
    set(true);
    set(false);
  }
};
const press = (button, shown) => button.setAttribute("aria-pressed", String(shown));
for (const button of buttons) {
  button.addEventListener("click", () => {
    press(button, button.getAttribute("aria-pressed") !== "true");
    showSeries();
  });
  button.addEventListener("dblclick", () => {
    buttons.forEach((other) => press(other, other === button));
    showSeries();
  });
}
for (const button of document.querySelectorAll("button[data-show]")) {
  button.addEventListener("click", () => {
    buttons.forEach((other) => press(other, button.dataset.show === "all" || other.hasAttribute("data-leading")));
    showSeries();
  });
}

// Sorting: by data-sort where a cell has it, else by its text; a second press turns the order round.
const valueOf = (row, place) => {
  const cell = row.cells[place];
  const text = cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
  const number = text === "" ? NaN : Number(text);
  return { text, number };
};
const compare = (a, b) => {
  if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return a.number - b.number;
  if (Number.isNaN(a.number) !== Number.isNaN(b.number)) return Number.isNaN(a.number) ? 1 : -1;
  return a.text.localeCompare(b.text);
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => ({ row, value: valueOf(row, place) }));
      rows.sort((a, b) => (down ? -1 : 1) * compare(a.value, b.value));
      body.append(...rows.map((entry) => entry.row));
    });
  });
}

// Hints of small drawings: what SVG keeps in <title> appears at once, in our own box.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll("main svg title")) {
  const shape = title.parentNode;
  shape.dataset.hint = title.textContent;
  title.remove();
}
addEventListener("pointermove", (event) => {
  const shape = event.target.closest ? event.target.closest("[data-hint]") : null;
  tip.hidden = !shape;
  if (!shape) return;
  tip.textContent = shape.dataset.hint;
  const across = Math.min(event.pageX + 14, document.documentElement.scrollWidth - tip.offsetWidth - 8);
  tip.style.left = Math.max(4, across) + "px";
  tip.style.top = event.pageY + 16 + "px";
});

// Downloads: what stands in the page, as it was measured and judged.
for (const button of document.querySelectorAll("button[data-download]")) {
  button.addEventListener("click", () => {
    const held = JSON.parse(document.getElementById(button.dataset.download).textContent);
    const text = typeof held === "string" ? held : JSON.stringify(held, null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: button.dataset.kind }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
document.documentElement.dataset.ready = "yes";
