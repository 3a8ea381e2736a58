"use strict";
// What the page does beyond what it says: charts, norms that are hidden, tables that sort, text that is copied.
const root = document.documentElement;
root.classList.add("scripted");
const { charts, dark } = JSON.parse(document.getElementById("data").textContent);
const every = (selector, within = document) => [...within.querySelectorAll(selector)];
const made = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Light and dark.
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");
let theme = "";
try { theme = localStorage.getItem("normbench-theme") ?? ""; } catch { /* no storage for files here */ }
const isDark = () => (theme ? theme === "dark" : prefersDark.matches);
function showTheme() {
  root.style.colorScheme = theme;
  themeButton.setAttribute("aria-pressed", String(isDark()));
}
themeButton.addEventListener("click", () => {
  theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("normbench-theme", theme); } catch { /* as above */ }
  showTheme();
  redraw();
});
prefersDark.addEventListener("change", () => { showTheme(); redraw(); });

// Norms: hidden by what a button of a legend says, in every chart and table of the page.
const hidden = new Set();
const buttons = every(".norms .norm");
const labels = () => [...new Set(buttons.filter(b => hidden.has(b.dataset.norm)).map(b => b.dataset.label))];
function showNorms() {
  for (const button of buttons) button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.norm)));
  for (const row of every("[data-norm]:not(button)")) row.hidden = hidden.has(row.dataset.norm);
  for (const button of every(".norms .all")) button.disabled = hidden.size === 0;
  for (const view of views.values()) view.signal("hidden", labels()).runAsync();
}
for (const button of buttons) {
  button.addEventListener("click", () => {
    const norm = button.dataset.norm;
    if (!hidden.delete(norm)) hidden.add(norm);
    showNorms();
  });
}
for (const button of every(".norms .all")) {
  button.addEventListener("click", () => { hidden.clear(); showNorms(); });
}

// Charts: drawn when they come into view, and again where the ground changes.
const views = new Map();
function rowsOf(columns) {
  const names = Object.keys(columns);
  return (columns[names[0]] ?? []).map((_, i) => Object.fromEntries(names.map(name => [name, columns[name][i]])));
}
const rows = charts.map(() => null);
function config(onDark) {
  const [ink, quiet, line] = onDark ? ["#e6e8eb", "#a0a8b3", "#2e343d"] : ["#1b1f24", "#5b6470", "#e4e7eb"];
  const font = getComputedStyle(root).fontFamily;
  return {
    background: "transparent",
    font,
    view: { stroke: null },
    axis: {
      labelColor: quiet, titleColor: ink, titleFontWeight: 500, titleFontSize: 12, labelFontSize: 11, titlePadding: 8,
      gridColor: line, domainColor: quiet, tickColor: quiet, tickSize: 4,
    },
  };
}
async function draw(plot, onDark = isDark()) {
  const place = Number(plot.dataset.chart);
  rows[place] ??= rowsOf(charts[place].columns);
  const text = JSON.stringify(charts[place].spec);
  const spec = JSON.parse(onDark ? text.replace(/#[0-9a-f]{6}\b/gi, colour => dark[colour.toUpperCase()] ?? colour) : text);
  views.get(plot)?.finalize();
  const { view } = await window.vegaEmbed(plot, { ...spec, datasets: { rows: rows[place] } }, {
    actions: false, ast: true, renderer: "svg", config: config(onDark), defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  });
  views.set(plot, view);
  if (hidden.size) view.signal("hidden", labels());
  const slider = plot.closest("figure").querySelector(".choice input");
  if (slider) view.signal("choice", Number(slider.value));
  await view.runAsync();
}
const plots = every(".plot");
const seen = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    draw(target);
  }
}, { rootMargin: "400px" });
plots.forEach(plot => seen.observe(plot));
const redraw = () => { for (const plot of [...views.keys()]) draw(plot); };
for (const input of every(".choice input")) {
  const figure = input.closest("figure");
  const { choices } = charts[Number(figure.querySelector(".plot").dataset.chart)];
  input.addEventListener("input", () => {
    const said = choices[Number(input.value)];
    figure.querySelector("output").textContent = said;
    input.setAttribute("aria-valuetext", said);
    views.get(figure.querySelector(".plot"))?.signal("choice", Number(input.value)).runAsync();
  });
}

// What is said of a column, or repeats a row: beside the button that asks for it.
const popover = made("div", { popover: "auto", id: "said", tabIndex: -1, role: "dialog" });
document.body.append(popover);
function say(button, ...content) {
  const open = popover.matches(":popover-open") && popover.about === button;
  popover.hidePopover();
  if (open) return;
  popover.replaceChildren(...content);
  popover.about = button;
  popover.ariaLabel = button.ariaLabel;
  popover.showPopover({ source: button });
  const at = button.getBoundingClientRect(), size = popover.getBoundingClientRect();
  const top = at.bottom + 6 + size.height > innerHeight ? Math.max(6, at.top - size.height - 6) : at.bottom + 6;
  popover.style.top = `${top}px`;
  popover.style.left = `${Math.max(6, Math.min(at.left, root.clientWidth - size.width - 8))}px`;
  popover.focus({ preventScroll: true });
}
function copies(text) {
  const button = made("button", { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      const area = made("textarea", { value: text() });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}
for (const code of every("code.command")) code.after(copies(() => code.textContent));
for (const text of every(".copied")) {
  const paragraphs = every("p", text);
  text.prepend(copies(() => paragraphs.map(p => p.textContent).join("\n\n")));
}

// Tables: each heading sorts, and says what its column means; each norm has the command that repeats it.
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
function sortBy(table, heading, place) {
  const ascends = heading.ariaSort ? heading.ariaSort !== "ascending" : heading.dataset.better !== "up";
  for (const other of every("thead th", table)) other.ariaSort = null;
  heading.ariaSort = ascends ? "ascending" : "descending";
  const valued = every("tbody tr", table).map(row => {
    const cell = row.cells[place];
    const number = cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort);
    return { row, number, text: cell.textContent };
  });
  const numbers = valued.some(one => !Number.isNaN(one.number));
  const sign = ascends ? 1 : -1;
  valued.sort((a, b) => {
    if (!numbers) return sign * collator.compare(a.text, b.text);
    // What has no number stands last either way.
    if (Number.isNaN(a.number) || Number.isNaN(b.number)) return Number.isNaN(a.number) - Number.isNaN(b.number);
    return sign * (a.number - b.number);
  });
  table.tBodies[0].append(...valued.map(one => one.row));
}
for (const board of every(".board")) {
  const table = board.querySelector("table");
  every("thead th", table ?? made("div")).forEach((heading, place) => {
    const name = [...heading.childNodes].map(node => node.textContent).join(" ").replace(/\s+/g, " ").trim();
    const sort = made("button", { type: "button", className: "sort" }, ...heading.childNodes);
    sort.addEventListener("click", () => sortBy(table, heading, place));
    heading.replaceChildren(sort);
    const meaning = every(".meanings dt", board).find(dt => dt.dataset.column === heading.dataset.column)?.nextElementSibling;
    if (meaning) {
      const what = made("button", { type: "button", className: "what", textContent: "?" });
      what.ariaLabel = `What ${name} means`;
      what.addEventListener("click", () => say(what, made("p", { textContent: meaning.textContent })));
      heading.append(what);
    }
  });
  const commands = every(".commands [data-norm]", board.closest(".part") ?? made("div"));
  for (const row of every("tbody tr", board)) {
    const command = commands.find(one => one.dataset.norm === row.dataset.norm)?.querySelector("code").textContent;
    if (!command) continue;
    const again = made("button", { type: "button", className: "again", textContent: "$" });
    again.ariaLabel = `The command that repeats ${row.dataset.norm}`;
    again.addEventListener("click", () => {
      say(again, made("p", { textContent: "Repeats this row:" }), made("code", { textContent: command }), copies(() => command));
    });
    row.querySelector("th").append(again);
  }
}

// A link to a part that is folded opens it; on paper nothing is folded, and all charts are there, in light colours.
function openLinked() {
  const part = location.hash.startsWith("#s") && document.getElementById(location.hash.slice(1));
  if (part) part.open = true;
}
// What is linked, or focused, is not to lie below the norms, which stay in sight.
const uncover = () => { root.style.scrollPaddingTop = `${Math.max(...every(".norms").map(list => list.offsetHeight)) + 12}px`; };
addEventListener("resize", uncover);
uncover();
addEventListener("hashchange", openLinked);
openLinked();
let folded = [];
async function unfold() {
  folded = every("details:not([open])");
  for (const one of folded) one.open = true;
  root.style.colorScheme = "light";
  await Promise.all(plots.filter(plot => isDark() || !views.has(plot)).map(plot => draw(plot, false)));
}
function fold() {
  for (const one of folded) one.open = false;
  showTheme();
  if (isDark()) redraw();
}
addEventListener("beforeprint", unfold);
addEventListener("afterprint", fold);
document.getElementById("print").addEventListener("click", async () => { await unfold(); print(); });
showTheme();
