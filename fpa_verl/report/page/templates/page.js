"use strict";
// Tables: a click on a head sorts by that column, numbers as numbers; the search field hides rows.
for (const table of document.querySelectorAll(".table table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return { text, number, isNumber: !Number.isNaN(number) };
  };
  const compare = (a, b) => {
    if (a.isNumber && b.isNumber) return a.number - b.number;
    return a.text.localeCompare(b.text);
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      // What is not a number (not reached, not recorded) stays at the end either way.
      if (a.isNumber !== b.isNumber && rows.some(([k]) => k.isNumber)) return a.isNumber ? -1 : 1;
      return direction * compare(a, b);
    });
    body.append(...rows.map(([, row]) => row));
  }));
}
for (const field of document.querySelectorAll(".filter input")) {
  const rows = [...field.closest(".table").querySelectorAll("tbody tr")];
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
