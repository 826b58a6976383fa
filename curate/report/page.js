// The page reads without this; it adds hints at the pointer, sorting, hiding of datasets, and the download.
"use strict";
addEventListener("error", (event) => {
  const box = document.getElementById("script-error");
  box.textContent = "A script of this page failed: " + event.message + ". The content below is complete without it.";
  box.hidden = false;
});

// Hints: what SVG keeps in <title> appears at once, in our own box.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll("svg title")) {
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

// Datasets: a press on the legend hides or shows their lines and points everywhere.
for (const button of document.querySelectorAll("button[data-toggle]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const mark of document.querySelectorAll(`[data-series="${button.dataset.toggle}"]`)) mark.classList.toggle("off", !shown);
  });
}

// Download: the table as it was measured.
const download = document.getElementById("download");
if (download) {
  download.addEventListener("click", () => {
    const text = JSON.parse(document.getElementById("measurements-csv").textContent);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "measurements.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
document.documentElement.dataset.ready = "yes";
