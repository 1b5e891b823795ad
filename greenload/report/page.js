"use strict";
// Bars, points and power over time answer the pointer and, once focused, the arrow keys; a table's heads sort it.
const tip = document.getElementById("tip"), spoken = document.getElementById("spoken");

function show(text, x, y) {
  if (tip.textContent !== text) { tip.textContent = text; }
  tip.style.visibility = "visible";
  const box = tip.getBoundingClientRect();
  const right = document.documentElement.clientWidth - box.width - 8;
  tip.style.left = Math.max(8, Math.min(right, x + 14)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(8, y - box.height - 12) : y + 18) + "px";
}
function hide() { tip.style.visibility = "hidden"; }

for (const bars of document.querySelectorAll(".bars, .scatter")) {
  const rows = [...bars.querySelectorAll("[data-tip]")];
  let at = -1;
  const on = (index) => { rows.forEach((row, k) => row.classList.toggle("on", k === index)); at = index; };
  rows.forEach((row, k) => {
    row.addEventListener("pointermove", (event) => { on(k); show(row.dataset.tip, event.clientX, event.clientY); });
  });
  keys(bars, () => rows.length, () => at, (k) => {
    on(k);
    const box = rows[k].getBoundingClientRect();
    show(rows[k].dataset.tip, box.left + box.width / 3, box.top + box.height / 2);
    return rows[k].dataset.tip;
  });
  for (const end of ["pointerleave", "blur"]) { bars.addEventListener(end, () => { on(-1); hide(); }); }
}

const lanes = document.querySelector(".lanes");
if (lanes) {
  const windows = JSON.parse(document.getElementById("windows").textContent);
  const cursors = [...lanes.querySelectorAll(".cursor")];
  let at = -1;
  const point = (k, y) => {
    const [start, end, text] = windows[k];
    at = k;
    for (const cursor of cursors) { cursor.style.display = "block"; cursor.style.left = (start + end) / 2 + "%"; }
    const box = cursors[0].parentElement.getBoundingClientRect();
    show(text, box.left + box.width * (start + end) / 200, y ?? box.top + 40);
    return text;
  };
  lanes.addEventListener("pointermove", (event) => {
    const box = cursors[0].parentElement.getBoundingClientRect();
    const place = 100 * (event.clientX - box.left) / box.width;
    if (place < 0 || place > 100) { hide(); return; }
    let best = 0;
    windows.forEach(([start, end], k) => {
      const far = Math.max(start - place, place - end, 0), least = Math.max(windows[best][0] - place, place - windows[best][1], 0);
      if (far < least) { best = k; }
    });
    point(best, event.clientY);
  });
  keys(lanes, () => windows.length, () => at, (k) => point(k));
  for (const end of ["pointerleave", "blur"]) {
    lanes.addEventListener(end, () => { at = -1; hide(); for (const cursor of cursors) { cursor.style.display = "none"; } });
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const order = (a, b) => a === b ? 0 : a === "" ? 1 : b === "" ? -1 : 0;
  heads.forEach((head, k) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const compared = (a, b) => a - b || (isNaN(a - b) ? a.localeCompare(b) : 0);
    const rows = [...body.rows].map((row) => [row.cells[k].dataset.value, row]);
    rows.sort(([a], [b]) => order(a, b) || sign * compared(a, b));  // what is unknown comes last, whichever way
    body.append(...rows.map(([, row]) => row));
  }));
}

function keys(element, count, now, go) {
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
    if (event.key === "Escape") { hide(); return; }
    if (!(event.key in steps)) { return; }
    event.preventDefault();
    const next = now() < 0 ? 0 : Math.max(0, Math.min(count() - 1, now() + steps[event.key]));
    spoken.textContent = go(next);
  });
}
