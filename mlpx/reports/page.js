"use strict";
// Sorting of tables. Without this script they stay in the order in which they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, heads, column));
  });
}

function sort(table, heads, column) {
  const descending = heads[column].getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => ({ row, place, key: keyOf(row.cells[column]) }));
  rows.sort((a, b) => {
    // What has no value comes last, whatever the direction.
    if ((a.key === null) !== (b.key === null)) return a.key === null ? 1 : -1;
    if (a.key === b.key) return a.place - b.place;
    return (a.key < b.key ? -1 : 1) * (descending ? -1 : 1);
  });
  body.append(...rows.map((each) => each.row));
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function keyOf(cell) {
  if ("value" in cell.dataset) return Number(cell.dataset.value);
  if (cell.classList.contains("number")) return null;
  return cell.textContent.trim() || null;
}
