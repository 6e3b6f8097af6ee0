"use strict";

/* Theme: system, light, dark, in turn. */
const THEMES = ["system", "light", "dark"];
const root = document.documentElement;

function showTheme() {
  const theme = root.getAttribute("data-theme") || "system";
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.setAttribute("aria-label", `Theme: ${theme}. Change it`);
    button.title = `Theme: ${theme}`;
  }
}

function nextTheme() {
  const theme = root.getAttribute("data-theme") || "system";
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  if (next === "system") root.removeAttribute("data-theme");
  else root.setAttribute("data-theme", next);
  try {
    if (next === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", next);
  } catch (error) {
    // Storage is forbidden here: the choice lasts for this page.
  }
  showTheme();
}

/* Copy: the text stands in data-copy, or in the element that data-copy-from names. */
async function copy(button) {
  const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
  const text = source ? source.textContent : button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const name = button.getAttribute("aria-label");
  button.dataset.copied = "";
  button.setAttribute("aria-label", "Copied");
  setTimeout(() => {
    delete button.dataset.copied;
    button.setAttribute("aria-label", name);
  }, 1600);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (!target) return;
  const copyButton = target.closest("[data-copy], [data-copy-from]");
  if (copyButton) copy(copyButton);
  if (target.closest("[data-theme-switch]")) nextTheme();
  for (const open of document.querySelectorAll("[data-sheet][open], [data-menu][open]")) {
    if (!open.contains(target)) open.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  const open = document.querySelector("[data-sheet][open], [data-menu][open]");
  if (event.key === "Escape" && open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const box = [...document.querySelectorAll("[data-search]")].find((input) => input.offsetParent !== null);
  if (!box) return;
  event.preventDefault();
  box.focus();
  box.select();
});

/* The region that changes is marked busy while its request runs. */
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.matches("[data-poll]")) return;
  event.detail.target.setAttribute("aria-busy", "true");
});
for (const name of ["htmx:afterRequest", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => event.detail.target.removeAttribute("aria-busy"));
}
/* A refused call answers with a page part that says why: show it instead of dropping it. */
document.addEventListener("htmx:beforeSwap", (event) => {
  const type = event.detail.xhr.getResponseHeader("Content-Type") || "";
  if (event.detail.xhr.status >= 400 && type.startsWith("text/html")) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
    if (/^\s*<!doctype/i.test(event.detail.xhr.responseText)) {
      event.detail.target = document.getElementById("main");
      event.detail.selectOverride = "#main";
      event.detail.swapOverride = "outerHTML";
    }
  }
});

/* The list changes, the boxes around it stay: what the reader opened stays open, and the search
   box says what the address says unless somebody is typing in it. */
let filtersWereOpen = false;
document.addEventListener("htmx:beforeSwap", () => {
  const filters = document.querySelector(".facets-toggle");
  filtersWereOpen = Boolean(filters && filters.open);
});
document.addEventListener("htmx:afterSettle", (event) => {
  const filters = document.querySelector(".facets-toggle");
  if (!filters || !filtersWereOpen || filters.open) return;
  filters.open = true;
  const source = event.detail.requestConfig && event.detail.requestConfig.elt;
  const same = source && source.id && document.getElementById(source.id);
  if (same && filters.contains(same)) same.focus({ preventScroll: true });
});
document.addEventListener("htmx:pushedIntoHistory", () => {
  const words = new URLSearchParams(location.search).get("q") || "";
  for (const box of document.querySelectorAll("main [data-search]")) {
    if (document.activeElement !== box) box.value = words;
  }
});

/* A swapped part takes away the link or button that asked for it. The reader goes on at what was
   made, at the first field that was refused, or at the heading. */
document.addEventListener("htmx:afterSettle", (event) => {
  if (document.activeElement && document.activeElement !== document.body) return;
  const part = event.detail.target;
  const refused = part.querySelector('[aria-invalid="true"]');
  const place =
    part.querySelector(".panel-made") ||
    (refused && refused.matches("fieldset") ? refused.querySelector("input") : refused) ||
    part.querySelector("h1");
  if (!place) return;
  if (place.matches("h1, section")) place.tabIndex = -1;
  place.focus();
});

/* What waits for something asks again as long as somebody looks; the answer says whether to go on. */
setInterval(() => {
  if (document.visibilityState !== "visible") return;
  for (const each of document.querySelectorAll("[data-poll]:not(.htmx-request)")) htmx.trigger(each, "poll");
}, 2_000);

/* On a narrow screen the tabs scroll sideways: the current one is brought into view. */
function showTab() {
  const row = document.querySelector(".tabs");
  const tab = row && row.querySelector("[aria-current]");
  if (!tab) return;
  const hidden = tab.offsetLeft + tab.offsetWidth - row.offsetLeft - row.clientWidth;
  if (hidden > 0) row.scrollLeft = hidden + tab.offsetWidth / 2;
}
document.addEventListener("htmx:afterSettle", showTab);

showTab();
showTheme();
