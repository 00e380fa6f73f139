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
// Trajectories: tokens take the shades of the chosen view. The legends hold the classes and where each ends.
const chooser = document.querySelector("#view");
const rounded = (value) => value.toPrecision(3);
const perToken = (logs) => {
  const known = logs.filter((log) => log !== null);
  return known.length ? rounded(Math.exp(known.reduce((sum, log) => sum + log, 0) / known.length)) : null;
};
const paint = (sample, key, against, legend) => {
  const noted = JSON.parse(sample.dataset.noted);
  // Log-prob i in nats; null where it is not known.
  const logProb = (name, i) => (noted[name]?.log_probs[i] ?? null) === null ? null : noted[name].log_probs[i] / 1000;
  const times = against ? " times" : "";
  const tokens = [...sample.querySelectorAll("pre span")];
  const classes = [...legend.querySelectorAll("[data-end]")];
  const logs = tokens.map((token, i) => {
    const [log, base] = [logProb(key, i), against ? logProb(against, i) : 0];
    const isKnown = log !== null && base !== null;
    const value = Math.exp(log - base);
    token.className = isKnown ? classes.find((one) => value <= Number(one.dataset.end)).className : "";
    token.title = isKnown ? `${rounded(value)}${times}` : "not known";
    if (isKnown && against) token.title += `: ${rounded(Math.exp(base))} \u2192 ${rounded(Math.exp(log))}`;
    return isKnown ? log - base : null;
  });
  const shared = sample.querySelectorAll("u span").length;
  const means = [["where shared", logs.slice(0, shared)], ["after", logs.slice(shared)]]
    .map(([where, part]) => [where, perToken(part)])
    .filter(([, mean]) => mean !== null)
    .map(([where, mean]) => `${mean}${times} ${where}`);
  const step = noted[key]?.step ? `Step ${noted[key].step}: ` : "";
  sample.querySelector(".summary").textContent = means.length ? step + means.join(", ") : "Not known of this trajectory";
};
if (chooser) {
  const paintAll = () => {
    const [option] = chooser.selectedOptions;
    const against = option.dataset.against;
    const legend = document.getElementById(against ? "change" : "probability");
    for (const one of document.querySelectorAll(".legend")) one.hidden = one !== legend;
    for (const sample of document.querySelectorAll(".sample")) paint(sample, option.value, against, legend);
  };
  chooser.addEventListener("change", paintAll);
  paintAll();
}
