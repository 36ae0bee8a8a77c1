"use strict";
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const body = header.closest("table").tBodies[0];
    const descending = header.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.cells[header.cellIndex].dataset.value;
    const compare = (left, right) => {
      const [a, b] = [Number(key(left)), Number(key(right))];
      if (Number.isNaN(a) && Number.isNaN(b)) return key(left).localeCompare(key(right), "en", { numeric: true });
      // What is absent stays last in either direction.
      if (Number.isNaN(a) || Number.isNaN(b)) return (Number.isNaN(a) ? 1 : -1) * (descending ? -1 : 1);
      return a - b;
    };
    const rows = [...body.rows].sort((left, right) => (descending ? -1 : 1) * compare(left, right));
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...rows);
  });
}
for (const input of document.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.getElementById(input.dataset.filter).tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
const said = (button) => {
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), 1500);
};
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    said(button);
  } catch {
    getSelection().selectAllChildren(button.dataset.copy === button.textContent ? button : button.parentElement);
  }
});
// Runs are written out when their number is opened: hundreds stand behind each in a large study.
const known = document.getElementById("run-ids");
const runIds = JSON.parse(known.textContent);
const made = (tag, name, text) => Object.assign(document.createElement(tag), { className: name, textContent: text });
const runOf = (id) => {
  if (known.dataset.address)
    return Object.assign(made("a", "run", id), { href: known.dataset.address + encodeURIComponent(id) });
  const button = Object.assign(made("button", "run", id), { type: "button", title: "Copy this run id" });
  button.dataset.copy = id;
  return button;
};
const openRuns = (box) => {
  const ids = box.dataset.runs.split(" ").map((number) => runIds[number]);
  const more = Number(box.dataset.more || 0);
  const runs = made("span", "runs", "");
  runs.append(made("span", "runs-head", `${ids.length + more} ${ids.length + more === 1 ? "run" : "runs"}`));
  runs.append(...ids.map(runOf));
  if (more) runs.append(made("span", "runs-head", `${more} more, all in trials.csv`));
  if (!known.dataset.address) runs.append(Object.assign(made("a", "how", "how to open"), { href: "#open-runs" }));
  box.append(runs);
};
const isClosed = (box) => box.dataset?.runs && box.open && !box.querySelector(".runs");
document.addEventListener("toggle", ({ target }) => isClosed(target) && openRuns(target), true);
const formOf = (id) => document.getElementById(id).content.textContent;
const save = (text, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
for (const button of document.querySelectorAll("[data-copy-from]")) {
  button.addEventListener("click", async () => {
    const text = formOf(button.dataset.copyFrom);
    try {
      await navigator.clipboard.writeText(text);
      said(button);
    } catch {
      // A browser may refuse the clipboard to a page opened from disk.
      save(text, `${button.dataset.copyFrom}.tex`);
    }
  });
}
for (const button of document.querySelectorAll("[data-save-from]")) {
  button.addEventListener("click", () => save(formOf(button.dataset.saveFrom), button.dataset.file));
}
const tip = document.getElementById("tip");
const point = (mark, text = mark.dataset.tip) => {
  const box = mark.getBoundingClientRect();
  tip.textContent = text;
  tip.hidden = false;
  const left = box.x + box.width / 2 - tip.offsetWidth / 2;
  tip.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.y > tip.offsetHeight + 12 ? box.y - tip.offsetHeight - 6 : box.bottom + 6}px`;
};
for (const mark of document.querySelectorAll("[data-tip]")) {
  const box = mark.getBBox();
  const target = document.createElementNS(mark.namespaceURI, "circle");
  target.setAttribute("cx", box.x + box.width / 2);
  target.setAttribute("cy", box.y + box.height / 2);
  target.setAttribute("r", 6);
  target.setAttribute("fill", "transparent");
  mark.append(target);
  mark.addEventListener("pointerenter", () => point(mark));
  mark.addEventListener("pointerleave", () => (tip.hidden = true));
  mark.addEventListener("click", async () => {
    if (mark.dataset.href) return location.assign(mark.dataset.href);
    let outcome = "";
    try {
      await navigator.clipboard.writeText(mark.dataset.run);
      outcome = ", copied";
    } catch {
      // The id stands in the tip, to be read.
    }
    point(mark, `${mark.dataset.tip} · run ${mark.dataset.run}${outcome}`);
  });
}
addEventListener("scroll", () => (tip.hidden = true), { passive: true });
