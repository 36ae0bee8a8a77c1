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
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1500);
    } catch {
      getSelection().selectAllChildren(button.dataset.copy === button.textContent ? button : button.parentElement);
    }
  });
}
