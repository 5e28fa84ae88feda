"use strict";

// Sorting: a click on a heading, best first where there is a choice; what is not known stays last.
function cellValue(row, column) {
  const raw = row.cells[column].dataset.value;
  if (raw === undefined) return null;
  const number = Number(raw);
  return raw.trim() === "" || Number.isNaN(number) ? raw : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, heading) {
  const column = heading.cellIndex;
  const before = heading.getAttribute("aria-sort");
  const first = heading.classList.contains("text") ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = before === first ? other : first;
  for (const one of table.tHead.rows[0].cells) one.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const rows = Array.from(body.rows, (row) => [row, cellValue(row, column)]);
    rows.sort(([, a], [, b]) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : sign * compare(a, b)));
    body.append(...rows.map(([row]) => row));
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, heading));
  }
}

// Filters: rows by text, articles by protocol, sections by pair; what holds nothing any more is hidden.
const form = document.getElementById("filters");
const text = document.getElementById("text");
const pair = document.getElementById("pair");
const protocol = document.getElementById("protocol");
const variants = document.getElementById("variants");
const count = document.getElementById("count");

function showRows(within, words) {
  let shown = 0;
  for (const row of within.querySelectorAll("tr[data-text]")) {
    const fits = words.every((word) => row.dataset.text.includes(word));
    row.hidden = !fits || (row.classList.contains("variant") && !variants.checked);
    if (!row.hidden) shown += 1;
  }
  return shown;
}

function applyFilters() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let total = 0;
  for (const section of document.querySelectorAll("section.pair")) {
    let shown = 0;
    for (const part of section.querySelectorAll(":scope > article, :scope > details")) {
      const wanted = !protocol || !protocol.value || part.dataset.protocol === protocol.value;
      const rows = wanted ? showRows(part, words) : 0;
      part.hidden = rows === 0;
      for (const box of part.querySelectorAll("details.peeks")) {
        box.hidden = !box.querySelector("tr[data-text]:not([hidden])");
      }
      shown += rows;
    }
    const wanted = !pair.value || section.dataset.pair === pair.value;
    section.hidden = !wanted || shown === 0;
    if (!section.hidden) total += shown;
  }
  document.getElementById("nothing").hidden = total > 0;
  count.textContent = total === 1 ? "1 row" : `${total} rows`;
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", applyFilters);
applyFilters();
