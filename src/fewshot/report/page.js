"use strict";
// A click on a header sorts its table by that column, numbers as numbers; another click turns the order round.
for (const button of document.querySelectorAll("th button")) {
  button.onclick = () => {
    const header = button.parentElement, column = header.cellIndex, table = header.closest("table"), body = table.tBodies[0];
    const turned = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const number = (row) => parseFloat(row.cells[column].dataset.value), text = (row) => row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) && Number.isNaN(y)) return turned * text(a).localeCompare(text(b));
      return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : turned * (x - y);  // what is missing stays below
    };
    body.append(...[...body.rows].sort(compare));
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", turned === 1 ? "ascending" : "descending");
  };
}
