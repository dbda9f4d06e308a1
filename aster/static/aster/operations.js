// The list of an API's operations: filter it, count what is checked, check what is shown.
"use strict";
(() => {
  const form = document.querySelector("[data-operations]");
  if (!form) return;
  const rows = [...form.querySelectorAll("[data-row]")].map((row) => ({
    row, box: row.querySelector("input"), text: row.textContent.toLowerCase(), method: row.dataset.method,
  }));
  const groups = [...form.querySelectorAll("[data-group]")];
  const filter = form.querySelector("[data-filter]"), method = form.querySelector("select[data-method]");
  const count = form.querySelector("[data-count]"), none = form.querySelector("[data-none]");
  const say = () => {
    const chosen = rows.filter(({ box }) => box.checked).length;
    const shown = rows.filter(({ row }) => !row.hidden).length;
    const most = Number(form.dataset.most);
    count.textContent = `${chosen} of ${rows.length} chosen` +
      (shown < rows.length ? `, ${shown} shown` : "") + (chosen > most ? `: at most ${most} fit` : "");
    none.hidden = shown > 0;
  };
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((each) => {
      each.row.hidden = !(words.every((word) => each.text.includes(word)) && (!method.value || each.method === method.value));
    });
    groups.forEach((group) => (group.hidden = !group.querySelector("[data-row]:not([hidden])")));
    say();
  };
  filter.addEventListener("input", apply);
  filter.addEventListener("keydown", (e) => e.key === "Enter" && e.preventDefault());
  method.addEventListener("change", apply);
  form.addEventListener("change", say);
  form.addEventListener("click", (e) => {
    const wanted = e.target.closest("[data-check]")?.dataset.check;
    if (!wanted) return;
    rows.forEach(({ row, box }) => row.hidden || (box.checked = wanted === "all"));
    say();
  });
  apply();
})();
