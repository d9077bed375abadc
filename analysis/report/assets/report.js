"use strict";

// A key that is a number sorts as one, in columns of numbers; an absent one ("") stays last either way.
function compare(first, second, numeric) {
  if (first === "" || second === "") return null;
  if (numeric) return Number(first) - Number(second);
  return first.localeCompare(second, "en", { numeric: true });
}

function sortBy(heading) {
  const table = heading.closest("table");
  const position = heading.cellIndex;
  const numeric = heading.classList.contains("number");
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const key = (row) => row.cells[position].dataset.key;
  const inOrder = (first, second) => {
    const order = compare(key(first), key(second), numeric);
    if (order === null) return (key(first) === "") - (key(second) === "");
    return direction * order;
  };
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  for (const body of table.tBodies) body.append(...[...body.rows].sort(inOrder)); // what stands apart stays so
}

for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// Paper cannot be clicked: what is folded away is printed, and folded again afterwards.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
});
