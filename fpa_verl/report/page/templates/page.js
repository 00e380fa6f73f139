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
// Trajectories: the tokens take the shades of the chosen view, whose classes and their ends the legend holds.
const chooser = document.querySelector("#view");
const perToken = (logs, from, to) => {
  const known = logs.slice(from, to).filter((log) => log !== null);
  const mean = Math.exp(known.reduce((sum, log) => sum + log, 0) / known.length);
  return known.length ? mean.toPrecision(3) : null;
};
const paint = (sample, key, against, legend) => {
  const noted = JSON.parse(sample.dataset.noted);
  const [values, base] = [noted[key], noted[against]];
  const probability = (one, i) => Math.exp(one.log_probs[i] / 1000);
  const isThere = values && (!against || base);
  const tokens = [...sample.querySelectorAll("pre span")];
  const logs = tokens.map((token, i) => {
    const both = isThere ? [values.log_probs[i], base ? base.log_probs[i] : 0] : [null];
    return both.every(Number.isFinite) ? (both[0] - both[1]) / 1000 : null;
  });
  const classes = [...legend.querySelectorAll("[data-end]")];
  tokens.forEach((token, i) => {
    token.className = "";
    token.removeAttribute("title");
    if (logs[i] === null) return;
    const value = Math.exp(logs[i]);
    token.className = classes.find((one) => value <= Number(one.dataset.end)).className;
    token.title = value.toPrecision(3);
    if (base) token.title = `\u00d7 ${token.title}: ${probability(base, i).toPrecision(3)} \u2192 ${probability(values, i).toPrecision(3)}`;
  });
  const shared = sample.querySelectorAll("u span").length;
  const parts = [[perToken(logs, 0, shared), "where shared"], [perToken(logs, shared), "after"]];
  const means = parts.filter(([mean]) => mean !== null).map(([mean, where]) => `${base ? "\u00d7 " : ""}${mean} ${where}`);
  const step = isThere && values.step !== null ? `Step ${values.step}: ` : "";
  sample.querySelector(".summary").textContent =
    means.length ? `${step}${means.join(", ")} (geometric mean a token)` : "Not noted.";
};
if (chooser) {
  const paintAll = () => {
    const [option] = chooser.selectedOptions;
    const against = option.dataset.against;
    for (const name of ["probability", "change"]) {
      document.getElementById(name).hidden = (name === "change") !== Boolean(against);
    }
    const legend = document.getElementById(against ? "change" : "probability");
    for (const sample of document.querySelectorAll(".sample")) paint(sample, option.value, against, legend);
  };
  chooser.addEventListener("change", paintAll);
  paintAll();
}
