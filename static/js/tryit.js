"use strict";

/* The snippets below the try-it form show the call that the form would make. */

const ABSENT = Symbol("absent");

function readField(field) {
  const input = field.querySelector("input:not([type=hidden]), textarea, select");
  const text = input.value;
  const required = input.required;
  switch (field.dataset.kind) {
    case "boolean":
      return input.checked;
    case "number":
    case "integer":
      if (text.trim() === "") return ABSENT;
      return Number.isNaN(Number(text)) ? text : Number(text);
    case "lines":
      if (text.trim() === "" && !required) return ABSENT;
      return text.split("\n").filter((line) => line !== "").map((line) => lineValue(line, field.dataset.items));
    case "choice":
      return input.selectedOptions.length && input.selectedOptions[0].dataset.json
        ? JSON.parse(input.selectedOptions[0].dataset.json)
        : ABSENT;
    case "json":
      if (text.trim() === "") return ABSENT;
      try {
        return JSON.parse(text);
      } catch (error) {
        return text;
      }
    case "file":
      return field.dataset.encoded || (input.files.length ? "…" : givenFile(field));
    default:
      return text === "" && !required ? ABSENT : text;
  }
}

function givenFile(field) {
  const given = field.querySelector("[data-given]");
  return given ? given.value : ABSENT;
}

function lineValue(line, type) {
  if (type === "number" || type === "integer") return Number(line);
  if (type === "boolean") return line.trim() === "true";
  return line;
}

function readDocument(form) {
  const whole = form.querySelector('[data-field=""]');
  if (whole) {
    const value = readField(whole);
    return value === ABSENT ? {} : value;
  }
  const result = {};
  for (const field of form.querySelectorAll("[data-field]")) {
    const value = readField(field);
    const key = field.dataset.field.slice(1).replaceAll("~1", "/").replaceAll("~0", "~");
    if (value !== ABSENT) result[key] = value;
  }
  return result;
}

function pythonLiteral(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonLiteral(item)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

const WRITERS = {
  shell: (value) => `'${JSON.stringify(value).replaceAll("'", "'\\''")}'`,
  python: pythonLiteral,
  javascript: (value) => JSON.stringify(value),
};

function follow(form) {
  const document_ = readDocument(form);
  for (const place of document.querySelectorAll("[data-document]")) {
    place.textContent = WRITERS[place.dataset.document](document_);
  }
}

function encodeFile(form, input) {
  const field = input.closest("[data-field]");
  delete field.dataset.encoded;
  const file = input.files[0];
  if (!file || file.size > 65536) return follow(form);
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    field.dataset.encoded = String(reader.result).split(",", 2)[1] || "";
    follow(form);
  });
  reader.readAsDataURL(file);
}

function tryForm(target) {
  return target instanceof Element ? target.closest("[data-try]") : null;
}

/* The form comes and goes with the tabs, so the page listens for it. */
document.addEventListener("input", (event) => {
  const form = tryForm(event.target);
  if (form && event.target.type !== "file") follow(form);
});
document.addEventListener("change", (event) => {
  const form = tryForm(event.target);
  if (!form) return;
  if (event.target.type === "file") encodeFile(form, event.target);
  else follow(form);
});

/* The answer brings a fresh form. The token, which the server never sends back, is put into it again. */
let typedToken = "";
document.addEventListener("htmx:beforeSwap", (event) => {
  const form = tryForm(event.detail.requestConfig && event.detail.requestConfig.elt);
  const token = form && form.querySelector("#token");
  typedToken = token ? token.value : "";
});
document.addEventListener("htmx:afterSwap", () => {
  const token = document.getElementById("token");
  if (token && typedToken) token.value = typedToken;
  typedToken = "";
});
